"""A machine under Bochs, whose processors know AVX-512 and VNNI: Debian's kernel, from a CD, runs one
script, and what the script prints comes back over the serial line.

Debian's Bochs 2.7 will do. SHRINKD_BOCHS names another bochs, configured --with-term."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
import tty

SHARED = "/usr/share/bochs"
END = "the script has ended"

# Linux finds no fast strings (ERMS) in Bochs, and where it finds short ones (FSRM) its memmove relies
# on them; and Bochs 2.7 misplaces the state of PKU and the compact forms of XSAVE.
ARGUMENTS = "console=ttyS0 loglevel=2 mitigations=off lsm=capability clearcpuid=321,323,515,580"

SETTINGS = """\
cpu: model={cpu}, count=1, ips=50000000, reset_on_triple_fault=0
memory: guest=512, host=512
romimage: file={shared}/BIOS-bochs-latest
vgaromimage: file={shared}/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path={disk}, status=inserted
boot: cdrom
com1: enabled=1, mode=term, dev={serial}
display_library: term
clock: sync=none
log: {log}
panic: action=fatal
error: action=report
info: action=ignore
"""

LOADER = """\
DEFAULT linux
LABEL linux
 KERNEL /vmlinuz
 APPEND initrd=/initrd.gz {arguments}
"""


def program():
    found = os.environ.get("SHRINKD_BOCHS") or shutil.which("bochs-bin") or shutil.which("bochs")
    assert found, "the package bochs is missing"
    return found


def help_of(*topic):
    return subprocess.run([program(), "--help", *topic], text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout


def models():
    return set(help_of("cpu").split())


def must(*command, **options):
    result = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    assert result.returncode == 0, f"{command}: {result.stderr.decode()}"
    return result.stdout


def kernel(folder):
    """The kernel that Debian's linux-image-cloud-amd64 stands for at present."""
    about = must("apt-cache", "show", "--no-all-versions", "linux-image-cloud-amd64").decode()
    must("apt-get", "download", re.search(r"Depends: (linux-image-\S+)", about)[1], cwd=folder)
    must("dpkg", "-x", next(folder.glob("linux-image-*.deb")), folder / "kernel")
    return next((folder / "kernel/boot").glob("vmlinuz-*"))


def ram_disk(folder, programs, script):
    """A root of these programs in /bin, with the libraries that they ask for, and the script as init."""
    for source in programs:
        files = {f"bin/{os.path.basename(source)}": source}
        libraries = subprocess.run(["ldd", source], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        files.update((path.lstrip("/"), path) for path in re.findall(r"(/\S+) \(0x", libraries.stdout))
        for name, path in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    init = folder / "init"
    init.write_text(f"#!/bin/busybox sh\n{script}\necho '{END}'\nbusybox sleep 1\nbusybox poweroff -f\n")
    init.chmod(0o755)
    names = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
    return must("cpio", "-o", "-H", "newc", "--quiet", cwd=folder, input=names.encode())


def disk(folder, programs, script):
    tree = folder / "cd"
    (tree / "isolinux").mkdir(parents=True)
    (folder / "root").mkdir()
    shutil.copy(kernel(folder), tree / "vmlinuz")
    (tree / "initrd.gz").write_bytes(must("gzip", "-1", input=ram_disk(folder / "root", programs, script)))
    shutil.copy("/usr/lib/ISOLINUX/isolinux.bin", tree / "isolinux")
    shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", tree / "isolinux")
    (tree / "isolinux/isolinux.cfg").write_text(LOADER.format(arguments=ARGUMENTS))
    must("genisoimage", "-quiet", "-R", "-o", folder / "cd.iso", "-b", "isolinux/isolinux.bin",
         "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", 4, "-boot-info-table", tree)
    return folder / "cd.iso"


def start(folder, cpu, cd, serial):
    """Starts Bochs in a terminal; returns its process and that terminal."""
    settings = folder / "bochsrc"
    settings.write_text(SETTINGS.format(cpu=cpu, shared=SHARED, disk=cd, serial=serial, log=folder / "log"))
    command = [program(), "-q", "-f", str(settings)]
    if "-rc filename" in help_of():  # built with its debugger, which waits for a word
        (folder / "continue").write_text("c\n")
        command += ["-rc", str(folder / "continue")]
    process, terminal = pty.fork()
    if process == 0:
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], command)
    return process, terminal


def listen(serial, terminal, limit):
    """What comes over the serial line until Bochs ends. It stops where its display is not read, which is
    the terminal, or another of its own, which it names there, when the debugger has the first."""
    text, said, ends, ended = b"", b"", [serial, terminal], False
    while not ended and time.monotonic() < limit:
        for end in select.select(ends, [], [], 1)[0]:
            try:
                got = os.read(end, 65536)
            except OSError:  # Bochs has closed its terminal
                got, ended = b"", True
            if end == serial:
                text += got
                print(got.decode(errors="replace"), end="", flush=True)  # for pytest -s
            elif end == terminal and len(ends) == 2:
                said += got
                screen = re.search(rb'connected to screen "(/dev/pts/\d+)"', said)
                ends += [os.open(screen[1], os.O_RDONLY | os.O_NOCTTY)] if screen else []
    for end in ends[1:]:
        os.close(end)
    return text.decode(errors="replace").replace("\r", "").splitlines()


def lines_of(folder, cpu, programs, script, seconds):
    """What the script prints on such a machine. Programs are paths; busybox is there, too."""
    cd = disk(folder, [*programs, shutil.which("busybox")], script)
    serial, line = pty.openpty()
    tty.setraw(line)
    process, terminal = start(folder, cpu, cd, os.ttyname(line))
    try:
        lines = listen(serial, terminal, time.monotonic() + seconds)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(serial)
        os.close(line)
    assert END in lines, f"the script did not end within {seconds} s"
    return lines[:lines.index(END)]
