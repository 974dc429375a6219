/* Models and datasets: named and versioned sets of blobs. One table holds both, as they are the
 * same thing to the store. A version number is never given out twice. Thread: any. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/vec.h"
#include "inner.h"

enum { MAX_NAME = 128 };

struct kind_words {
    const char *word, *prefix;
};

static const struct kind_words kinds[] = {
    [STORE_MODEL] = {"model", "mdl"},
    [STORE_DATASET] = {"dataset", "dst"},
};

/* ── Rows ───────────────────────────────────────────────────────────────────────────────────── */

#define ITEM_COLUMNS "id, name, version, format, options, summary, created_us"

typedef SHR_VEC(struct store_item) item_list;

static int fill_item(sqlite3_stmt *row, struct store_item *item)
{
    int code = 0;
    struct shr_arena *arena = &item->arena;
    item->id = store_row_text(row, 0, arena, &code);
    item->name = store_row_text(row, 1, arena, &code);
    item->version = sqlite3_column_int64(row, 2);
    item->format = store_row_text(row, 3, arena, &code);
    item->options = store_row_text(row, 4, arena, &code);
    item->summary = store_row_text(row, 5, arena, &code);
    item->created_us = sqlite3_column_int64(row, 6);
    return code;
}

static int take_item(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    item_list *list = user;
    struct store_item *item = SHR_VEC_ADD(list);
    return store__oom(item == NULL ? SHR_ERR_NOMEM : fill_item(row, item), err);
}

static int take_part(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    struct store_item *item = user;
    int code = 0;
    if (item->n_parts == STORE_MAX_PARTS) {
        return shr_err_set(err, SHR_ERR_CORRUPT, "%s has more than %d parts", item->id,
                           STORE_MAX_PARTS);
    }
    item->parts[item->n_parts++] =
        (struct store_part){.name = store_row_text(row, 0, &item->arena, &code),
                            .sha256 = store_row_text(row, 1, &item->arena, &code),
                            .bytes = (uint64_t)sqlite3_column_int64(row, 2)};
    return store__oom(code, err);
}

static void free_list(item_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        store_item_finish(&list->v[i]);
    }
    SHR_VEC_FINISH(list);
}

/* The rows of a query with their parts, in the caller's transaction. */
static int load_items(struct store_db *db, const char *sql, const struct store_arg *args,
                      item_list *list, struct shr_err *err)
{
    int code = store_db_query(db, sql, args, take_item, list, err);
    for (size_t i = 0; code == 0 && i < list->n; i++) {
        code =
            store_db_query(db, "SELECT name, sha256, bytes FROM part WHERE item = ?1 ORDER BY seq",
                           STORE_ARGS(STORE_TEXT(list->v[i].id)), take_part, &list->v[i], err);
    }
    return code;
}

/* The only row of a query; *ret_found tells whether there is one. */
static int load_item(struct store_db *db, const char *sql, const struct store_arg *args,
                     struct store_item *ret, bool *ret_found, struct shr_err *err)
{
    item_list list = {0};
    int code = load_items(db, sql, args, &list, err);
    if (code == 0) {
        *ret_found = list.n > 0;
        if (list.n > 0) {
            *ret = list.v[0];
            list.v[0] = (struct store_item){0};
        }
    }
    free_list(&list);
    return code;
}

void store_item_finish(struct store_item *item)
{
    if (item != NULL) {
        shr_arena_finish(&item->arena);
        *item = (struct store_item){0};
    }
}

/* ── Adding ─────────────────────────────────────────────────────────────────────────────────── */

static const char *text_or_empty(const char *s)
{
    return s != NULL ? s : "";
}

static int check_new(enum store_kind kind, const struct store_item *item, struct shr_err *err)
{
    size_t n = item->name != NULL ? strlen(item->name) : 0;
    if (n == 0 || n > MAX_NAME) {
        return shr_err_set(err, SHR_ERR_INVALID, "name: %s names have 1 to %d bytes",
                           kinds[kind].word, MAX_NAME);
    }
    if (item->n_parts == 0 || item->n_parts > STORE_MAX_PARTS) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s %s: %zu parts, not 1 to %d", kinds[kind].word,
                           item->name, item->n_parts, STORE_MAX_PARTS);
    }
    return 0;
}

static bool same_content(const struct store_item *a, const struct store_item *b)
{
    if (a->n_parts != b->n_parts ||
        strcmp(text_or_empty(a->options), text_or_empty(b->options)) != 0 ||
        strcmp(text_or_empty(a->format), text_or_empty(b->format)) != 0) {
        return false;
    }
    for (size_t i = 0; i < a->n_parts; i++) {
        if (strcmp(a->parts[i].name, b->parts[i].name) != 0 ||
            strcmp(a->parts[i].sha256, b->parts[i].sha256) != 0) {
            return false;
        }
    }
    return true;
}

static int load_newest(struct store_db *db, enum store_kind kind, const char *name,
                       struct store_item *ret, bool *ret_found, struct shr_err *err)
{
    return load_item(db,
                     "SELECT " ITEM_COLUMNS " FROM item WHERE kind = ?1 AND name = ?2"
                     " ORDER BY version DESC LIMIT 1",
                     STORE_ARGS(STORE_TEXT(kinds[kind].word), STORE_TEXT(name)), ret, ret_found,
                     err);
}

static int insert_parts(struct store *store, const char *id, const struct store_item *item,
                        struct shr_err *err)
{
    int code = 0;
    for (size_t i = 0; code == 0 && i < item->n_parts; i++) {
        const struct store_part *part = &item->parts[i];
        code = store__blob_expect(store, part->sha256, part->bytes, err);
        if (code == 0) {
            code = store_db_run(&store->main,
                                "INSERT INTO part (item, seq, name, sha256, bytes)"
                                " VALUES (?1, ?2, ?3, ?4, ?5)",
                                STORE_ARGS(STORE_TEXT(id), STORE_INT((int64_t)i),
                                           STORE_TEXT(part->name), STORE_TEXT(part->sha256),
                                           STORE_INT((int64_t)part->bytes)),
                                err);
        }
    }
    return code;
}

static int insert(struct store *store, enum store_kind kind, const struct store_item *item,
                  struct shr_err *err)
{
    char id[STORE_ID_SIZE];
    store_id_new(kinds[kind].prefix, id);
    int64_t version = 0;
    bool found;
    int code = store_db_int(&store->main,
                            "INSERT INTO item_name (kind, name, last_version) VALUES (?1, ?2, 1)"
                            " ON CONFLICT DO UPDATE SET last_version = last_version + 1"
                            " RETURNING last_version",
                            STORE_ARGS(STORE_TEXT(kinds[kind].word), STORE_TEXT(item->name)),
                            &version, &found, err);
    if (code != 0) {
        return code;
    }
    code = store_db_run(
        &store->main,
        "INSERT INTO item (id, kind, name, version, format, options, summary, created_us)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        STORE_ARGS(STORE_TEXT(id), STORE_TEXT(kinds[kind].word), STORE_TEXT(item->name),
                   STORE_INT(version), STORE_TEXT(text_or_empty(item->format)),
                   STORE_TEXT(text_or_empty(item->options)),
                   STORE_TEXT(text_or_empty(item->summary)), STORE_INT(store__now_us())),
        err);
    return code == 0 ? insert_parts(store, id, item, err) : code;
}

/* Inside the transaction: adds unless the newest version is the same, and reads what stands. */
static int add(struct store *store, enum store_kind kind, const struct store_item *item,
               struct store_item *ret, bool *ret_is_new, struct shr_err *err)
{
    struct store_item newest = {0};
    bool found = false;
    int code = load_newest(&store->main, kind, item->name, &newest, &found, err);
    if (code == 0 && !(found && same_content(&newest, item))) {
        store_item_finish(&newest);
        *ret_is_new = true;
        code = insert(store, kind, item, err);
        if (code == 0) {
            code = load_newest(&store->main, kind, item->name, &newest, &found, err);
        }
    }
    if (code == 0) {
        *ret = newest;
    } else {
        store_item_finish(&newest);
    }
    return code;
}

int store_item_add(struct store *store, enum store_kind kind, const struct store_item *item,
                   struct store_item *ret, bool *ret_is_new, struct shr_err *err)
{
    int code = check_new(kind, item, err);
    if (code != 0) {
        return code;
    }
    struct store_item added = {0};
    bool is_new = false;
    code = store_db_begin(&store->main, err);
    if (code == 0) {
        code = add(store, kind, item, &added, &is_new, err);
        code = store_db_end(&store->main, code, err);
    }
    if (code != 0) {
        store_item_finish(&added);
        return code;
    }
    *ret = added;
    *ret_is_new = is_new;
    return 0;
}

/* ── Reading ────────────────────────────────────────────────────────────────────────────────── */

static int no_item(enum store_kind kind, const char *name_or_id, int64_t version,
                   struct shr_err *err)
{
    const char *word = kinds[kind].word;
    if (version == 0) {
        return shr_err_set(err, SHR_ERR_NOT_FOUND, "%s %s does not exist", word, name_or_id);
    }
    return shr_err_set(err, SHR_ERR_NOT_FOUND, "%s %s has no version %" PRId64, word, name_or_id,
                       version);
}

static int load_one(struct store_db *db, enum store_kind kind, const char *name_or_id,
                    int64_t version, struct store_item *ret, struct shr_err *err)
{
    const char *word = kinds[kind].word;
    bool found = false;
    int code;
    if (store_id_is(kinds[kind].prefix, name_or_id)) {
        code = load_item(db,
                         "SELECT " ITEM_COLUMNS " FROM item WHERE kind = ?1 AND id = ?2"
                         " AND (?3 = 0 OR version = ?3)",
                         STORE_ARGS(STORE_TEXT(word), STORE_TEXT(name_or_id), STORE_INT(version)),
                         ret, &found, err);
    } else if (version == 0) {
        code = load_newest(db, kind, name_or_id, ret, &found, err);
    } else {
        code = load_item(
            db, "SELECT " ITEM_COLUMNS " FROM item WHERE kind = ?1 AND name = ?2 AND version = ?3",
            STORE_ARGS(STORE_TEXT(word), STORE_TEXT(name_or_id), STORE_INT(version)), ret, &found,
            err);
    }
    return code != 0 || found ? code : no_item(kind, name_or_id, version, err);
}

int store_item_get(struct store *store, enum store_kind kind, const char *name_or_id,
                   int64_t version, struct store_item *ret, struct shr_err *err)
{
    struct store_item item = {0};
    int code = store_db_begin(&store->reader, err);
    if (code == 0) {
        code = load_one(&store->reader, kind, name_or_id, version, &item, err);
        code = store_db_end(&store->reader, code, err);
    }
    if (code != 0) {
        store_item_finish(&item);
        return code;
    }
    *ret = item;
    return 0;
}

void store_page_finish(struct store_page *page)
{
    if (page == NULL) {
        return;
    }
    for (size_t i = 0; i < page->n; i++) {
        store_item_finish(&page->v[i]);
    }
    shr_mem_free(page->v);
    *page = (struct store_page){0};
}

int store_item_list(struct store *store, enum store_kind kind, const char *cursor, size_t limit,
                    struct store_page *ret, struct shr_err *err)
{
    item_list list = {0};
    int code = store_db_begin(&store->reader, err);
    if (code == 0) {
        /* One more than asked for tells whether there is a next page. */
        code =
            load_items(&store->reader,
                       "SELECT " ITEM_COLUMNS " FROM item AS i WHERE kind = ?1 AND name > ?2"
                       " AND version = (SELECT max(version) FROM item"
                       "                WHERE kind = i.kind AND name = i.name)"
                       " ORDER BY name LIMIT ?3",
                       STORE_ARGS(STORE_TEXT(kinds[kind].word), STORE_TEXT(text_or_empty(cursor)),
                                  STORE_INT((int64_t)limit + 1)),
                       &list, err);
        code = store_db_end(&store->reader, code, err);
    }
    if (code != 0) {
        free_list(&list);
        return code;
    }
    struct store_page page = {.n = list.n, .v = list.v};
    if (page.n > limit) {
        store_item_finish(&page.v[--page.n]);
        if (page.n > 0) {
            snprintf(page.next, sizeof page.next, "%s", page.v[page.n - 1].name);
        }
    }
    *ret = page;
    return 0;
}

/* ── Deleting ───────────────────────────────────────────────────────────────────────────────── */

struct user_of {
    bool found;
    char job[STORE_ID_SIZE];
    int64_t version;
};

static int take_user(sqlite3_stmt *row, void *user, struct shr_err *err)
{
    (void)err;
    struct user_of *u = user;
    u->found = true;
    const char *id = (const char *)sqlite3_column_text(row, 0);
    strncpy(u->job, id != NULL ? id : "", sizeof u->job - 1);
    u->version = sqlite3_column_int64(row, 1);
    return 0;
}

static int delete_versions(struct store *store, enum store_kind kind, const char *name,
                           int64_t version, struct shr_err *err)
{
    struct store_db *db = &store->main;
    const char *word = kinds[kind].word;
    struct user_of user = {0};
    const struct store_arg *args =
        STORE_ARGS(STORE_TEXT(word), STORE_TEXT(name), STORE_INT(version));
    int code = store_db_query(db,
                              "SELECT job.id, item.version FROM job, item"
                              " WHERE job.finished_us = 0 AND kind = ?1"
                              " AND (item.name = ?2 OR item.id = ?2)"
                              " AND (?3 = 0 OR version = ?3) AND (job.model_id = item.id OR"
                              "  instr(' ' || job.datasets || ' ', ' ' || item.id || ' ') > 0)"
                              " ORDER BY job.seq LIMIT 1",
                              args, take_user, &user, err);
    if (code != 0) {
        return code;
    }
    if (user.found) {
        return shr_err_set(err, SHR_ERR_CONFLICT, "%s %s: version %" PRId64 " is used by %s", word,
                           name, user.version, user.job);
    }
    code = store_db_run(
        db,
        "DELETE FROM item WHERE kind = ?1 AND (name = ?2 OR id = ?2) AND (?3 = 0 OR version = ?3)",
        args, err);
    if (code == 0 && store_db_changes(db) == 0) {
        code = no_item(kind, name, version, err);
    }
    return code;
}

int store_item_delete(struct store *store, enum store_kind kind, const char *name, int64_t version,
                      struct shr_err *err)
{
    int code = store_db_begin(&store->main, err);
    if (code != 0) {
        return code;
    }
    code = delete_versions(store, kind, name, version, err);
    return store_db_end(&store->main, code, err);
}
