/* Tokens, Host and Origin; see auth.h. */
#include "auth.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static int token_add(struct api_auth *auth, const char *path, unsigned line, char *text,
                     struct shr_err *err)
{
    text += strspn(text, " \t");
    size_t n = strcspn(text, " \t\r\n");
    if (n == 0 || text[0] == '#') {
        return 0;
    }
    if (text[n + strspn(text + n, " \t\r\n")] != 0) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s:%u: more than one word", path, line);
    }
    if (n < API_TOKEN_MIN || n > API_TOKEN_MAX) {
        return shr_err_set(err, SHR_ERR_INVALID, "%s:%u: a token has %d to %d characters", path,
                           line, API_TOKEN_MIN, API_TOKEN_MAX);
    }
    if (auth->n == API_TOKENS_MAX) {
        return shr_err_set(err, SHR_ERR_LIMIT, "%s: more than %d tokens", path, API_TOKENS_MAX);
    }
    const char *token = shr_arena_strndup(&auth->arena, text, n);
    if (token == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "%s: out of memory", path);
    }
    auth->tokens[auth->n++] = token;
    return 0;
}

int api_auth_init(struct api_auth *auth, const char *path, struct shr_err *err)
{
    *auth = (struct api_auth){0};
    if (path == NULL || path[0] == 0) {
        return 0;
    }

    FILE *file = fopen(path, "re");
    struct stat info;
    int rc = 0;
    if (file == NULL || fstat(fileno(file), &info) != 0) {
        rc = shr_err_set(err, SHR_ERR_IO, "token_file %s: %s", path, strerror(errno));
        goto out;
    }
    if ((info.st_mode & S_IROTH) != 0) {
        rc = shr_err_set(err, SHR_ERR_DENIED, "token_file %s: everyone can read it (chmod 600)",
                         path);
        goto out;
    }
    char line[API_TOKEN_MAX + 64];
    for (unsigned number = 1; rc == 0 && fgets(line, sizeof line, file) != NULL; number++) {
        if (strchr(line, '\n') == NULL && !feof(file)) {
            rc = shr_err_set(err, SHR_ERR_INVALID, "%s:%u: the line is too long", path, number);
        } else {
            rc = token_add(auth, path, number, line, err);
        }
    }
    if (rc == 0 && ferror(file)) {
        rc = shr_err_set(err, SHR_ERR_IO, "token_file %s: cannot be read", path);
    }
    if (rc == 0 && auth->n == 0) {
        rc = shr_err_set(err, SHR_ERR_INVALID, "token_file %s: holds no token", path);
    }

out:
    if (file != NULL) {
        fclose(file);
    }
    if (rc != 0) {
        api_auth_finish(auth);
    }
    return rc;
}

void api_auth_finish(struct api_auth *auth)
{
    shr_arena_finish(&auth->arena);
    auth->n = 0;
}

/* Takes the time of the given text's length, wherever they differ. */
static bool is_equal_in_constant_time(const char *given, const char *token)
{
    size_t given_n = strlen(given), token_n = strlen(token);
    volatile unsigned char difference = given_n != token_n;
    for (size_t i = 0; i < given_n; i++) {
        difference |= (unsigned char)(given[i] ^ token[token_n == 0 ? 0 : i % token_n]);
    }
    return difference == 0;
}

bool api_auth_accepts(const struct api_auth *auth, const char *header)
{
    if (auth->n == 0) {
        return true;
    }
    if (header == NULL || strncasecmp(header, "Bearer ", 7) != 0) {
        return false;
    }
    const char *given = header + 7 + strspn(header + 7, " ");
    bool is_known = false;
    for (size_t i = 0; i < auth->n; i++) {
        is_known |= is_equal_in_constant_time(given, auth->tokens[i]);
    }
    return is_known;
}

/* The length of the name in "name", "name:port", "[v6]:port"; 0 when it is neither. */
static size_t host_name_length(const char *host)
{
    size_t n = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    if (n > strlen(host)) {
        return 0;
    }
    const char *port = host + n;
    if (*port == ':') {
        port += 1 + strspn(port + 1, "0123456789");
    }
    return *port == 0 ? n : 0;
}

static bool is_listed(const char *names, const char *name, size_t n)
{
    static const char separators[] = " ,\t";
    while (names != NULL && *(names += strspn(names, separators)) != 0) {
        size_t length = strcspn(names, separators);
        if (length == n && strncasecmp(names, name, n) == 0) {
            return true;
        }
        names += length;
    }
    return false;
}

bool api_host_is_allowed(const char *host, const char *names)
{
    size_t n = host == NULL ? 0 : host_name_length(host);
    return n > 0 && (is_listed("localhost 127.0.0.1 [::1]", host, n) || is_listed(names, host, n));
}

bool api_origin_is_same(const char *origin, const char *host)
{
    if (origin == NULL) {
        return true;
    }
    const char *place = strstr(origin, "://");
    return place != NULL && host != NULL && strcasecmp(place + 3, host) == 0;
}
