#!/usr/bin/env python3
"""Writes files as a table of C bytes: embed.py OUTPUT TABLE FILE... (struct api_file in ui.h).

A file's name in the table is its base name; its entity tag is its SHA-256."""
import hashlib
import pathlib
import sys


def main(output, table, *paths):
    lines = ['#include "ui.h"', ""]
    rows = []
    for number, path in enumerate(map(pathlib.Path, paths)):
        data = path.read_bytes()
        lines.append(f"static const unsigned char file_{number}[] = {{")
        for i in range(0, len(data), 20):
            lines.append("    " + "".join(f"{byte}," for byte in data[i:i + 20]))
        lines += ["    0};", ""]  # a 0 byte behind it, so that no file is an empty array
        tag = f'"\\"sha256:{hashlib.sha256(data).hexdigest()}\\""'
        rows.append(f'    {{"{path.name}", {tag}, file_{number}, {len(data)}}},')
    lines += [f"const struct api_file {table}s[] = {{"] + rows + ["};"]
    lines += [f"const size_t {table}_count = {len(rows)};", ""]
    pathlib.Path(output).write_text("\n".join(lines))


main(*sys.argv[1:])
