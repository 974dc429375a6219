/* Migrations: numbered SQL files, embedded at build time, each run once in its own transaction.
 *
 * PRAGMA user_version is the number of the last one that a file has seen; a file that has seen more
 * than we know was written by a newer shrinkd and is refused. */
#ifndef STORE_MIGRATE_H
#define STORE_MIGRATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct store_db;

struct store_migration {
    const char *name, *sql;
};

/* Made by sql/embed.sh. */
extern const struct store_migration store_migrations_shrinkd[];
extern const size_t store_migrations_shrinkd_count;
extern const struct store_migration store_migrations_artifacts[];
extern const size_t store_migrations_artifacts_count;

/* CONFLICT: newer than we are, or the database of another program. */
int store_migrate(struct store_db *db, int32_t application_id, const struct store_migration *list,
                  size_t n, struct shr_err *err) SHR_MUSTCHECK;

#endif
