/* shrinkctl run: a model of the disk, with what it keeps in other files of its folder.
 *
 * The engine has looked at the names; here symbolic links must not lead out of the folder either.
 * Files stay mapped until the model is loaded, and are mapped once. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run.h"

struct mapped {
    char *location;
    struct shr_bytes bytes;
};

struct folder {
    char *path; /* real */
    SHR_VEC(struct mapped) files;
};

static int map_file(const char *path, struct shr_bytes *ret, struct shr_err *err)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        const char *why = fd < 0 ? strerror(errno) : "is no file";
        if (fd >= 0) {
            close(fd);
        }
        return shr_err_set(err, SHR_ERR_IO, "%s: %s", path, why);
    }
    ret->n = (size_t)st.st_size;
    ret->data = ret->n == 0 ? NULL : mmap(NULL, ret->n, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    return ret->data == MAP_FAILED ? shr_err_set(err, SHR_ERR_IO, "%s: %s", path, strerror(errno))
                                   : SHR_OK;
}

static int open_file(void *user, const char *location, struct shr_bytes *ret, struct shr_err *err)
{
    struct folder *folder = user;
    for (size_t i = 0; i < folder->files.n; i++) {
        if (strcmp(folder->files.v[i].location, location) == 0) {
            *ret = folder->files.v[i].bytes;
            return SHR_OK;
        }
    }
    char *joined = NULL;
    if (asprintf(&joined, "%s/%s", folder->path, location) < 0) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    char *real = realpath(joined, NULL);
    const size_t n = strlen(folder->path);
    int code = SHR_OK;
    if (real == NULL) {
        code = shr_err_set(err, SHR_ERR_NOT_FOUND, "%s: %s", joined, strerror(errno));
    } else if (strncmp(real, folder->path, n) != 0 || (n > 1 && real[n] != '/')) {
        code = shr_err_set(err, SHR_ERR_DENIED, "%s leads out of the model's folder", joined);
    }
    struct shr_bytes bytes = {0};
    code = code == SHR_OK ? map_file(real, &bytes, err) : code;
    struct mapped *slot = code == SHR_OK ? SHR_VEC_ADD(&folder->files) : NULL;
    if (slot != NULL) {
        *slot = (struct mapped){strdup(location), bytes};
        *ret = bytes;
    } else if (code == SHR_OK) {
        code = shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
    }
    free(joined);
    free(real);
    return code;
}

/* The folder of the file that a path means. */
static char *folder_of(const char *path)
{
    char *real = realpath(path, NULL);
    char *slash = real == NULL ? NULL : strrchr(real, '/');
    if (slash != NULL) {
        slash[slash == real] = 0;
    }
    return real;
}

int run_load(const char *path, struct shr_model **ret, struct shr_err *err)
{
    struct folder folder = {.path = folder_of(path)};
    struct shr_bytes file;
    int code = folder.path == NULL ? shr_err_set(err, SHR_ERR_IO, "%s", strerror(errno))
                                   : map_file(path, &file, err);
    if (code == SHR_OK) {
        const struct shr_files files = {open_file, &folder};
        code = shr_model_load_files(file.data, file.n, NULL, &files, ret, err);
        if (file.n > 0) {
            munmap((void *)(uintptr_t)file.data, file.n);
        }
    }
    for (size_t i = 0; i < folder.files.n; i++) {
        struct mapped *f = &folder.files.v[i];
        if (f->bytes.n > 0) {
            munmap((void *)(uintptr_t)f->bytes.data, f->bytes.n);
        }
        free(f->location);
    }
    SHR_VEC_FINISH(&folder.files);
    free(folder.path);
    return code;
}
