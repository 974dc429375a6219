/* GET /openapi.json: OpenAPI 3.1, generated from the tables that the code runs on.
 *
 * Paths, parameters, bodies and answers come from the routes table, a job's pipeline from the pass
 * table, error codes from the problem table; the shapes of answers are in schemas.json, which the
 * tests hold against real answers. Thread: http. */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "handlers.h"
#include "problem.h"
#include "ui.h"

/* Adds take_value under key; json NULL or no memory end as NULL further up. */
static void put(json_t *object, const char *key, json_t *take_value)
{
    json_object_set_new(object, key, take_value);
}

static json_t *schema_ref(const char *name)
{
    return json_pack("{s:s+}", "$ref", "#/components/schemas/", name);
}

static json_t *parameter(const char *name, size_t name_n, const char *place, const char *type,
                         const char *summary)
{
    json_t *json = json_pack("{s:s%, s:s, s:b, s:{s:s}}", "name", name, name_n, "in", place,
                             "required", strcmp(place, "path") == 0, "schema", "type", type);
    if (summary != NULL) {
        put(json, "description", json_string(summary));
    }
    return json;
}

static void params_add(json_t *list, const struct api_param *params, const char *place)
{
    for (; params != NULL && params->name != NULL; params++) {
        json_array_append_new(list, parameter(params->name, strlen(params->name), place,
                                              params->type, params->summary));
    }
}

static json_t *parameters(const struct api_route *route)
{
    json_t *list = json_array();
    const char *open = route->path;
    while ((open = strchr(open, '{')) != NULL) {
        size_t n = strcspn(++open, "}");
        bool is_number = strncmp(open, "version", n) == 0 || strncmp(open, "step", n) == 0;
        json_array_append_new(list,
                              parameter(open, n, "path", is_number ? "integer" : "string", NULL));
    }
    params_add(list, route->query, "query");
    params_add(list, route->headers, "header");
    return list;
}

/* {"application/json": {"schema": …}, "text/csv": {}} */
static json_t *content(const char *types, const char *schema)
{
    json_t *object = json_object();
    while (*types != 0) {
        size_t n = strcspn(types, " ");
        json_t *media = json_object();
        bool is_json =
            strncmp(types, API_TYPE_JSON, n) == 0 || strncmp(types, API_TYPE_PROBLEM, n) == 0;
        if (schema != NULL && is_json) {
            put(media, "schema", schema_ref(schema));
        }
        json_object_setn_new(object, types, n, media);
        types += n + (types[n] == ' ');
    }
    return object;
}

static json_t *operation(const struct api_route *route)
{
    char status[8];
    snprintf(status, sizeof status, "%d", route->status);
    json_t *answer = json_pack("{s:s}", "description", route->summary);
    if (route->produces != NULL) {
        put(answer, "content", content(route->produces, route->schema));
    }
    json_t *json = json_pack("{s:s, s:o, s:{s:o, s:{s:s}}}", "summary", route->summary,
                             "parameters", parameters(route), "responses", status, answer,
                             "default", "$ref", "#/components/responses/Problem");
    if (route->consumes != NULL) {
        bool is_json = route->body == API_BODY_JSON;
        put(json, "requestBody",
            json_pack("{s:b, s:o}", "required", 1, "content",
                      content(route->consumes, is_json ? "JobRequest" : NULL)));
    }
    if (route->auth == API_AUTH_OPEN) {
        put(json, "security", json_array());
    }
    return json;
}

static json_t *paths(void)
{
    json_t *object = json_object();
    for (size_t i = 0; i < api_route_count; i++) {
        const struct api_route *route = &api_routes[i];
        char method[8] = "";
        for (size_t k = 0; k + 1 < sizeof method && route->method[k] != 0; k++) {
            method[k] = (char)tolower((unsigned char)route->method[k]);
        }
        if (json_object_get(object, route->path) == NULL) {
            put(object, route->path, json_object());
        }
        put(json_object_get(object, route->path), method, operation(route));
    }
    return object;
}

static json_t *problem_codes(void)
{
    json_t *list = json_array();
    for (size_t i = 0; i < api_problem_count; i++) {
        json_array_append_new(list, json_string(api_problem_name(&api_problems[i])));
    }
    return list;
}

/* A parameter of the pass table as a schema: what a job may say there. */
static json_t *param_schema(const json_t *param)
{
    static const struct {
        const char *type, *schema;
    } types[] = {
        {"enum", "{\"type\":\"string\"}"},
        {"amount", "{\"type\":\"number\"}"},
        {"model", "{\"type\":\"string\"}"},
        {"bytes", "{\"type\":[\"integer\",\"string\"]}"},
        {"list", "{\"type\":\"array\",\"items\":{\"type\":[\"string\",\"integer\"]}}"},
    };
    const char *type = json_string_value(json_object_get(param, "type"));
    json_t *schema = NULL;
    for (size_t i = 0; type != NULL && i < SHR_COUNT_OF(types); i++) {
        if (strcmp(type, types[i].type) == 0) {
            schema = json_loads(types[i].schema, 0, NULL);
        }
    }
    if (schema == NULL) { /* boolean, integer and number are JSON schema's own */
        schema = json_pack("{s:s?}", "type", type);
    }
    json_t *choices = json_object_get(param, "choices");
    if (choices != NULL) {
        json_t *values = json_object_get(schema, "items");
        json_object_set(values != NULL ? values : schema, "enum", choices);
    }
    if (json_object_get(param, "min") != NULL && choices == NULL) {
        json_object_set(schema, "minimum", json_object_get(param, "min"));
        json_object_set(schema, "maximum", json_object_get(param, "max"));
    }
    json_object_set(schema, "default", json_object_get(param, "default"));
    json_object_set(schema, "description", json_object_get(param, "help"));
    return schema;
}

/* "nodes.include" stands in the object "nodes", which is made with its first member. */
static void param_add(json_t *properties, const char *name, const json_t *param)
{
    const char *dot = strchr(name, '.');
    if (dot != NULL) {
        char group[64];
        snprintf(group, sizeof group, "%.*s", (int)(dot - name), name);
        if (json_object_get(properties, group) == NULL) {
            put(properties, group,
                json_pack("{s:s, s:b, s:{}}", "type", "object", "additionalProperties", 0,
                          "properties"));
        }
        properties = json_object_get(json_object_get(properties, group), "properties");
        name = dot + 1;
    }
    put(properties, name, param_schema(param));
}

static json_t *pass_schema(const json_t *pass)
{
    json_t *properties = json_pack("{s:{s:O?}}", "pass", "const", json_object_get(pass, "name"));
    const json_t *params = json_object_get(pass, "parameters");
    for (size_t i = 0; i < json_array_size(params); i++) {
        const json_t *param = json_array_get(params, i);
        const char *name = json_string_value(json_object_get(param, "name"));
        if (name != NULL) {
            param_add(properties, name, param);
        }
    }
    return json_pack("{s:s, s:O?, s:[s], s:b, s:o}", "type", "object", "description",
                     json_object_get(pass, "help"), "required", "pass", "additionalProperties", 0,
                     "properties", properties);
}

static json_t *step_schema(void)
{
    json_t *passes = srv_passes(), *list = json_array();
    const json_t *items = json_object_get(passes, "items");
    for (size_t i = 0; i < json_array_size(items); i++) {
        json_array_append_new(list, pass_schema(json_array_get(items, i)));
    }
    json_decref(passes);
    return json_pack("{s:s, s:o}", "description", "A pass and its parameters", "oneOf", list);
}

static json_t *schemas(void)
{
    json_t *object =
        json_loadb((const char *)api_schema_files[0].bytes, api_schema_files[0].n, 0, NULL);
    json_t *problem = json_object_get(json_object_get(object, "Problem"), "properties");
    put(json_object_get(problem, "code"), "enum", problem_codes());
    put(object, "Step", step_schema());
    return object;
}

int api_openapi_get(struct api_request *req, struct shr_err *err)
{
    json_t *about = srv_about(req->srv);
    const char *version = json_string_value(json_object_get(about, "version"));
    json_t *json = json_pack(
        "{s:s, s:{s:s, s:s, s:s}, s:[{}, {s:[]}], s:o, s:{s:o, s:{s:{s:s, s:s}}, s:{s:{s:s, "
        "s:o}}}}",
        "openapi", "3.1.0", "info", "title", "shrinkd", "version", version == NULL ? "" : version,
        "description", "Makes neural networks smaller and faster, and measures what it cost.",
        "security", "bearer", "paths", paths(), "components", "schemas", schemas(),
        "securitySchemes", "bearer", "type", "http", "scheme", "bearer", "responses", "Problem",
        "description", "What is wrong", "content", content(API_TYPE_PROBLEM, "Problem"));
    json_decref(about);
    return api_reply_json(req, 200, json, err);
}
