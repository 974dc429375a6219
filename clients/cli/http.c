/* HTTP for shrinkctl, over libcurl: JSON, uploads from files, downloads, and lines as they come. */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

enum { LINE_MOST = 1 << 20 };

struct answer {
    const struct cli_request *request;
    CURL *curl;
    char *text; /* an error's or an unclaimed body, or the line that is not yet whole */
    size_t n, cap;
    bool failed, stopped;
};

static bool is_success(CURL *curl)
{
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    return status >= 200 && status < 300;
}

static bool keep(struct answer *a, const char *bytes, size_t n)
{
    if (a->n + n + 1 > a->cap) {
        size_t cap = (a->n + n + 1) * 2;
        char *text = realloc(a->text, cap);
        if (text == NULL) {
            a->failed = true;
            return false;
        }
        a->text = text;
        a->cap = cap;
    }
    memcpy(a->text + a->n, bytes, n);
    a->n += n;
    a->text[a->n] = 0;
    return true;
}

/* Gives whole lines to the callback and keeps the rest. */
static bool give_lines(struct answer *a)
{
    char *line = a->text;
    for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = 0;
        if (!a->request->line(a->request->user, line)) {
            a->stopped = true;
            return false;
        }
    }
    a->n = strlen(line);
    memmove(a->text, line, a->n + 1);
    return a->n <= LINE_MOST;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *user)
{
    struct answer *a = user;
    size_t total = size * n;
    if (a->request->to != NULL && is_success(a->curl)) {
        if (fwrite(bytes, 1, total, a->request->to) != total) {
            a->failed = true;
            return 0;
        }
        return total;
    }
    if (!keep(a, bytes, total)) {
        return 0;
    }
    if (a->request->line != NULL && is_success(a->curl) && !give_lines(a)) {
        return 0;
    }
    return total;
}

static int on_progress(void *user, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up)
{
    (void)user;
    curl_off_t done = up_total > 0 ? up : down, total = up_total > 0 ? up_total : down_total;
    if (total > 0) {
        char text[32];
        fprintf(stderr, "\r  %3d %% of %s ", (int)(done * 100 / total),
                cli_bytes((double)total, text, sizeof text));
        fflush(stderr);
    }
    return 0;
}

/* The token's Authorization header, or NULL; *ret_ok is false after telling of a file error. */
static char *authorization(const struct cli *cli, bool *ret_ok)
{
    char token[4096] = "";
    *ret_ok = true;
    if (cli->token_file == NULL || cli->token_file[0] == 0) {
        return NULL;
    }
    FILE *file = fopen(cli->token_file, "r");
    if (file == NULL || fgets(token, sizeof token, file) == NULL) {
        cli_error("token file %s: %s", cli->token_file,
                  file == NULL ? strerror(errno) : "it is empty");
        *ret_ok = false;
    }
    if (file != NULL) {
        fclose(file);
    }
    token[strcspn(token, "\r\n")] = 0;
    char *header = NULL;
    if (*ret_ok && asprintf(&header, "Authorization: Bearer %s", token) < 0) {
        *ret_ok = false;
    }
    return header;
}

static void tell_problem(const char *text, long status)
{
    json_error_t error;
    json_t *problem = json_loads(text == NULL ? "" : text, 0, &error);
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    const char *title = json_string_value(json_object_get(problem, "title"));
    if (detail != NULL) {
        cli_error("%s", detail);
    } else {
        cli_error("the server answered %ld%s%s", status, title == NULL ? "" : ": ",
                  title == NULL ? "" : title);
    }
    json_decref(problem);
}

static curl_mime *multipart(CURL *curl, const struct cli_request *r)
{
    curl_mime *mime = curl_mime_init(curl);
    for (size_t i = 0; mime != NULL && i < r->n_parts; i++) {
        curl_mimepart *part = curl_mime_addpart(mime);
        curl_mime_name(part, r->parts[i].name);
        if (curl_mime_filedata(part, r->parts[i].file) != CURLE_OK) {
            cli_error("%s: %s", r->parts[i].file, strerror(errno));
            curl_mime_free(mime);
            return NULL;
        }
    }
    return mime;
}

static char *url_of(const struct cli *cli, CURL *curl, const char *path)
{
    char *url = NULL;
    const char *base = cli->server;
    if (strncmp(base, "unix:", 5) == 0) {
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, base + 5);
        base = "http://localhost";
    }
    size_t n = strlen(base);
    while (n > 0 && base[n - 1] == '/') {
        n--;
    }
    return asprintf(&url, "%.*s%s", (int)n, base, path) < 0 ? NULL : url;
}

static struct curl_slist *add_header(struct curl_slist *list, const char *header)
{
    struct curl_slist *longer = header == NULL ? list : curl_slist_append(list, header);
    return longer == NULL ? list : longer;
}

static int tell_outcome(const struct cli *cli, const struct answer *a, CURLcode code, long status)
{
    if (a->stopped) {
        return CLI_OK;
    }
    if (a->failed) {
        cli_error("the answer could not be written: %s", strerror(errno));
        return CLI_LOCAL;
    }
    if (code != CURLE_OK) {
        cli_error("%s: %s", cli->server, curl_easy_strerror(code));
        return CLI_UNREACHABLE;
    }
    if (status < 200 || status >= 300) {
        tell_problem(a->text, status);
        return CLI_REFUSED;
    }
    return CLI_OK;
}

/* One exchange: what must be freed at its end. */
struct exchange {
    CURL *curl;
    struct curl_slist *headers;
    curl_mime *mime;
    FILE *upload;
    char *url, *accept, *token, *body;
};

static void exchange_finish(struct exchange *x)
{
    if (x->upload != NULL) {
        fclose(x->upload);
    }
    free(x->url);
    free(x->accept);
    free(x->token);
    free(x->body);
    curl_mime_free(x->mime);
    curl_slist_free_all(x->headers);
    curl_easy_cleanup(x->curl);
}

static bool set_upload(struct exchange *x, const char *path)
{
    x->upload = fopen(path, "rb");
    if (x->upload == NULL || fseeko(x->upload, 0, SEEK_END) != 0) {
        cli_error("%s: %s", path, strerror(errno));
        return false;
    }
    curl_off_t size = ftello(x->upload);
    rewind(x->upload);
    x->headers = add_header(x->headers, "Content-Type: application/octet-stream");
    curl_easy_setopt(x->curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(x->curl, CURLOPT_READDATA, x->upload);
    curl_easy_setopt(x->curl, CURLOPT_INFILESIZE_LARGE, size);
    return true;
}

static bool set_body(struct exchange *x, const struct cli_request *r)
{
    if (r->body != NULL) {
        x->body = json_dumps(r->body, JSON_COMPACT);
        if (x->body == NULL) {
            cli_error("out of memory");
            return false;
        }
        x->headers = add_header(x->headers, "Content-Type: application/json");
        curl_easy_setopt(x->curl, CURLOPT_POSTFIELDS, x->body);
    } else if (r->n_parts > 0) {
        x->mime = multipart(x->curl, r);
        if (x->mime == NULL) {
            return false;
        }
        curl_easy_setopt(x->curl, CURLOPT_MIMEPOST, x->mime);
    } else if (r->upload_file != NULL) {
        return set_upload(x, r->upload_file);
    } else if (strcmp(r->method, "POST") == 0) {
        curl_easy_setopt(x->curl, CURLOPT_POSTFIELDS, "");
    }
    return true;
}

static bool exchange_init(struct exchange *x, const struct cli *cli, const struct cli_request *r)
{
    bool token_ok;
    x->token = authorization(cli, &token_ok);
    x->curl = curl_easy_init();
    x->url = x->curl == NULL || !token_ok ? NULL : url_of(cli, x->curl, r->path);
    if (x->url == NULL) {
        return false;
    }
    if (asprintf(&x->accept, "Accept: %s", r->accept == NULL ? "application/json" : r->accept) <
        0) {
        x->accept = NULL;
        return false;
    }
    x->headers = add_header(add_header(add_header(NULL, x->accept), x->token), r->header);
    curl_easy_setopt(x->curl, CURLOPT_URL, x->url);
    curl_easy_setopt(x->curl, CURLOPT_CONNECTTIMEOUT, 10L);
    if (!set_body(x, r)) {
        return false;
    }
    curl_easy_setopt(x->curl, CURLOPT_CUSTOMREQUEST, r->method);
    curl_easy_setopt(x->curl, CURLOPT_HTTPHEADER, x->headers);
    return true;
}

int cli_http(const struct cli *cli, const struct cli_request *r, char **ret_text, long *ret_status)
{
    struct exchange x = {0};
    if (!exchange_init(&x, cli, r)) {
        exchange_finish(&x);
        return CLI_LOCAL;
    }

    struct answer answer = {.request = r, .curl = x.curl};
    bool progress = r->progress && !cli->quiet && isatty(STDERR_FILENO);
    curl_easy_setopt(x.curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(x.curl, CURLOPT_WRITEDATA, &answer);
    if (progress) {
        curl_easy_setopt(x.curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(x.curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    }
    CURLcode code = curl_easy_perform(x.curl);
    long status = 0;
    curl_easy_getinfo(x.curl, CURLINFO_RESPONSE_CODE, &status);
    if (progress) {
        fputs("\r\033[K", stderr);
    }
    int exit_code = tell_outcome(cli, &answer, code, status);
    if (exit_code == CLI_OK && ret_text != NULL) {
        *ret_text = answer.text;
        answer.text = NULL;
    }
    if (ret_status != NULL) {
        *ret_status = status;
    }
    free(answer.text);
    exchange_finish(&x);
    return exit_code;
}

int cli_http_json(const struct cli *cli, const struct cli_request *request, json_t **ret_json)
{
    char *text = NULL;
    int code = cli_http(cli, request, &text, NULL);
    if (code != CLI_OK) {
        return code;
    }

    json_error_t error;
    json_t *json = json_loads(text == NULL ? "" : text, 0, &error);
    free(text);
    if (json == NULL) {
        cli_error("%s did not answer in JSON: %s", request->path, error.text);
        return CLI_UNREACHABLE;
    }
    *ret_json = json;
    return CLI_OK;
}

int cli_download(const struct cli *cli, const char *path, const char *file)
{
    /* Beside the file until all is there: what it held before is not lost to an error. */
    struct stat old;
    bool to_stdout = strcmp(file, "-") == 0;
    bool is_direct = to_stdout || (stat(file, &old) == 0 && !S_ISREG(old.st_mode));
    char *part = NULL;
    if (asprintf(&part, "%s%s", file, is_direct ? "" : ".part") < 0) {
        cli_error("out of memory");
        return CLI_LOCAL;
    }
    FILE *to = to_stdout ? stdout : fopen(part, "wb");
    if (to == NULL) {
        cli_error("%s: %s", part, strerror(errno));
        free(part);
        return CLI_LOCAL;
    }
    struct cli_request request = {
        .method = "GET", .path = path, .accept = "*/*", .to = to, .progress = true};
    int code = cli_http(cli, &request, NULL, NULL);
    if ((to_stdout ? fflush(to) : fclose(to)) != 0 && code == CLI_OK) {
        cli_error("%s: %s", file, strerror(errno));
        code = CLI_LOCAL;
    }
    if (code == CLI_OK && !is_direct && rename(part, file) != 0) {
        cli_error("%s: %s", file, strerror(errno));
        code = CLI_LOCAL;
    }
    if (code != CLI_OK && !is_direct) {
        remove(part); /* half a model helps nobody */
    } else if (code == CLI_OK && !to_stdout && !cli->json) {
        fprintf(stderr, "wrote %s\n", file);
    }
    free(part);
    return code;
}

char *cli_escape(const char *text)
{
    char *escaped = malloc(strlen(text) * 3 + 1), *to = escaped;
    if (escaped == NULL) {
        cli_error("out of memory");
        exit(CLI_LOCAL);
    }
    for (; *text != 0; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     strchr("-._~", c) != NULL;
        to += sprintf(to, plain ? "%c" : "%%%02X", c);
    }
    *to = 0;
    return escaped;
}
