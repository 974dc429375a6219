/* What the files of the store share: the object itself, and helpers below the public calls.
 *
 * Order of locks: shrinkd.db before artifacts.db; the reader is never held together with another.
 * Thread: any. */
#ifndef STORE_INNER_H
#define STORE_INNER_H

#include "db.h"
#include "store.h"

enum { STORE_SHRINKD_ID = 0x53485244, STORE_ARTIFACTS_ID = 0x53485241 }; /* "SHRD", "SHRA" */

struct store {
    char *dir;
    int lock_fd;
    size_t chunk_bytes;
    struct store_db main;   /* shrinkd.db, the writer */
    struct store_db reader; /* shrinkd.db, query_only: reads do not wait for a commit */
    struct store_db blobs;  /* artifacts.db, written and read by one connection */
    /* Under the mutex of blobs: */
    uint64_t uncommitted;      /* bytes in its open transaction */
    int64_t next_blob;         /* never given out twice, not even after a rollback */
    struct store_upload *live; /* uploads of this process; the sweeper leaves them alone */
};

int64_t store__now_us(void);

/* The code of a row function that may have run out of memory: sets err, returns code. */
int store__oom(int code, struct shr_err *err);

/* The size of a file in the store's folder; 0 when it is not there. */
int store__file_bytes(const struct store *store, const char *name, uint64_t *ret,
                      struct shr_err *err) SHR_MUSTCHECK;

/* Is the finished blob there? Locks artifacts.db. NOT_FOUND, or CONFLICT when its size differs. */
int store__blob_expect(struct store *store, const char *sha256, uint64_t bytes,
                       struct shr_err *err) SHR_MUSTCHECK;

/* Ends a transaction on artifacts.db as store_db_end does, and forgets what was uncommitted. */
int store__blobs_end(struct store *store, int code, struct shr_err *err) SHR_MUSTCHECK;
bool store__upload_is_live(const struct store *store, int64_t blob); /* mutex of blobs held */

/* Deletes a finished blob that nothing names any more. Locks shrinkd.db, then artifacts.db. */
int store__blob_drop(struct store *store, const char *sha256, struct shr_err *err) SHR_MUSTCHECK;

/* Forgets the checkpoint of a job, if it is of a step up to `last`, inside a transaction on
 * store->main; a sweep takes the bytes. */
int store__checkpoint_drop(struct store *store, int64_t job, int64_t last,
                           struct shr_err *err) SHR_MUSTCHECK;

/* Appends an event to a job inside a transaction on store->main. job: its seq. */
int store__event_append(struct store *store, int64_t job, const char *kind, const char *data,
                        int64_t *ret_id, struct shr_err *err) SHR_MUSTCHECK;

/* The seq of a job inside a transaction on store->main; attempt -1 = any, else CONFLICT. */
int store__job_find(struct store *store, const char *id, int64_t attempt, int64_t *ret_seq,
                    struct shr_err *err) SHR_MUSTCHECK;

#endif
