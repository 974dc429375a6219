"""The units, judged by systemd itself."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNITS = ROOT / "systemd"


def installed(tmp_path):
    """The units as they would be installed, with a program that exists."""
    for unit in ("shrinkd.service", "shrinkd.socket"):
        text = (UNITS / unit).read_text()
        (tmp_path / unit).write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.M))
    return tmp_path


def test_systemd_accepts_the_units(tmp_path):
    folder = installed(tmp_path)
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", folder / "shrinkd.service", folder / "shrinkd.socket"],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    complaints = [line for line in result.stdout.splitlines() if "shrinkd" in line]
    assert result.returncode == 0 and not complaints, result.stdout


def test_the_service_is_hardened(tmp_path):
    folder = installed(tmp_path)
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", folder / "shrinkd.service"],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 0, result.stdout[-600:]
