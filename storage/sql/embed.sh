#!/bin/sh
# Prints C source that holds migration files and the table of them, in the order given:
#     embed.sh TABLE 001_first.sql 002_second.sql … > migrations.c
set -eu
export LC_ALL=C
table=$1
shift
echo '#include "migrate.h"'
n=0
for file in "$@"; do
    n=$((n + 1))
    case ${file##*/} in
    "$(printf %03d "$n")"_*.sql) ;;
    *) echo "embed.sh: $file should be number $n" >&2; exit 1 ;;
    esac
    echo "static const unsigned char sql_$n[] = {"
    od -An -v -tx1 "$file" | sed 's/\([0-9a-f][0-9a-f]\)/0x\1,/g'
    echo '0};'
done
echo "const struct store_migration ${table}[] = {"
n=0
for file in "$@"; do
    n=$((n + 1))
    echo "    {\"${file##*/}\", (const char *)sql_$n},"
done
echo '};'
echo "const size_t ${table}_count = $n;"
