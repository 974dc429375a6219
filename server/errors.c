/* Errors of more than one file of the server; see errors.h. */
#include "errors.h"

#include <string.h>

int srv_nomem(struct shr_err *err)
{
    return shr_err_set(err, SHR_ERR_NOMEM, "out of memory");
}

int srv_name_check(const char *what, const char *name, struct shr_err *err)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    static const char rest[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";
    const size_t n = strlen(name);
    if (n == 0 || n > 128 || strspn(name, first) == 0 || strspn(name, rest) != n) {
        return shr_err_set(err, SHR_ERR_INVALID,
                           "%s: \"%.128s\" is not a name: 1 to 128 of a-z 0-9 . _ -, beginning "
                           "with a letter or digit",
                           what, name);
    }
    return SHR_OK;
}
