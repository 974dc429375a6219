/* The routes table: every path that shrinkd answers, and what is documented of it.
 *
 * The router, the query check, early authentication, the metrics and openapi.json all read this
 * table; a route that is not here does not exist. Immutable. Thread: any. */
#include "handlers.h"

#define END_OF_PARAMS                                                                              \
    {                                                                                              \
        NULL, NULL, NULL                                                                           \
    }

static const struct api_param page_query[] = {
    {"limit", "integer", "The most items of a page"},
    {"cursor", "string", "next_cursor of the page before"},
    END_OF_PARAMS,
};
static const struct api_param job_list_query[] = {
    {"state", "string", "Only jobs in this state"},
    {"model", "string", "Only jobs of this model"},
    {"limit", "integer", "The most items of a page"},
    {"cursor", "string", "next_cursor of the page before"},
    END_OF_PARAMS,
};
static const struct api_param job_query[] = {
    {"wait", "string", "Answer when the job has ended or this time (30s, 500ms) is over"},
    END_OF_PARAMS,
};
static const struct api_param events_query[] = {
    {"after", "integer", "Events with a greater id; Last-Event-ID wins"},
    END_OF_PARAMS,
};
static const struct api_param dataset_query[] = {
    {"scale", "string", "Each input value is multiplied by this number"},
    {"mean", "string", "Then these numbers, one or one a channel, are subtracted"},
    {"std", "string", "Then it is divided by these"},
    {"layout", "string", "How images are laid out for the model"},
    END_OF_PARAMS,
};
static const struct api_param compare_query[] = {
    {"ids", "string", "Job ids, with commas between"},
    {"baseline", "string", "The job whose original model is the first row"},
    {"metrics", "string", "Columns, with commas between; all when absent"},
    {"format", "string", "json, csv, markdown or text; wins over Accept"},
    END_OF_PARAMS,
};
static const struct api_param job_headers[] = {
    {"Idempotency-Key", "string", "The same key and body again give the same job"},
    END_OF_PARAMS,
};
static const struct api_param events_headers[] = {
    {"Last-Event-ID", "integer", "The last event that was seen"},
    END_OF_PARAMS,
};
static const struct api_param content_headers[] = {
    {"Range", "string", "One range of bytes"},
    {"If-Range", "string", "The entity tag that the range is of"},
    {"If-None-Match", "string", "Entity tags of the bytes at hand"},
    END_OF_PARAMS,
};

#define JSON API_TYPE_JSON
#define BYTES "application/octet-stream"
#define SSE "text/event-stream"

/* clang-format off */
const struct api_route api_routes[] = {
    {"GET", "/", api_ui_get, API_AUTH_OPEN, .status = 200, .produces = "text/html",
     .summary = "The dashboard"},
    {"GET", "/ui/{file}", api_ui_get, API_AUTH_OPEN, .status = 200,
     .produces = "text/html text/css text/javascript image/svg+xml",
     .summary = "A file of the dashboard"},
    {"GET", "/livez", api_live_get, API_AUTH_OPEN, .status = 200, .produces = JSON,
     .schema = "Status", .summary = "Is the process alive?"},
    {"GET", "/readyz", api_ready_get, API_AUTH_OPEN, .status = 200, .produces = JSON,
     .schema = "Status", .summary = "Can it take work?"},
    {"GET", "/metrics", api_metrics_get, .status = 200, .produces = "text/plain",
     .summary = "Metrics for Prometheus"},
    {"GET", "/openapi.json", api_openapi_get, API_AUTH_OPEN, .status = 200, .produces = JSON,
     .schema = "Object", .summary = "This description"},
    {"GET", "/v1", api_about_get, .status = 200, .produces = JSON, .schema = "About",
     .summary = "Version, limits and CPU features"},
    {"GET", "/v1/storage", api_storage_get, .status = 200, .produces = JSON, .schema = "Storage",
     .summary = "What the store holds"},
    {"GET", "/v1/passes", api_passes_get, .status = 200, .produces = JSON, .schema = "Passes",
     .summary = "The passes and their parameters"},

    {"PUT", "/v1/models/{name}", api_model_put, .body = API_BODY_STREAM, .consumes = BYTES,
     .begin = api_model_begin, .chunk = api_model_chunk, .status = 201, .produces = JSON,
     .schema = "Model", .summary = "Store an ONNX model; 200 when the same bytes are there already"},
    {"GET", "/v1/models", api_model_list, .query = page_query, .status = 200, .produces = JSON,
     .schema = "ModelList", .summary = "The models"},
    {"GET", "/v1/models/{name}", api_model_get, .status = 200, .produces = JSON, .schema = "Model",
     .summary = "The newest version of a model"},
    {"GET", "/v1/models/{name}/versions/{version}", api_model_get, .status = 200, .produces = JSON,
     .schema = "Model", .summary = "A version of a model"},
    {"DELETE", "/v1/models/{name}", api_model_delete, .status = 204,
     .summary = "Delete a model with all its versions"},
    {"DELETE", "/v1/models/{name}/versions/{version}", api_model_delete, .status = 204,
     .summary = "Delete a version of a model"},
    {"GET", "/v1/models/{name}/content", api_model_content, .headers = content_headers,
     .status = 200, .produces = BYTES, .summary = "The bytes of the newest version"},
    {"GET", "/v1/models/{name}/versions/{version}/content", api_model_content,
     .headers = content_headers, .status = 200, .produces = BYTES,
     .summary = "The bytes of a version"},

    {"PUT", "/v1/datasets/{name}", api_dataset_put, .body = API_BODY_STREAM,
     .consumes = BYTES " multipart/form-data", .begin = api_dataset_begin,
     .chunk = api_dataset_chunk, .query = dataset_query, .status = 201, .produces = JSON,
     .schema = "Dataset",
     .summary = "Store a dataset: .npz, .npy, or the fields images and labels in idx or idx.gz"},
    {"GET", "/v1/datasets", api_dataset_list, .query = page_query, .status = 200, .produces = JSON,
     .schema = "DatasetList", .summary = "The datasets"},
    {"GET", "/v1/datasets/{name}", api_dataset_get, .status = 200, .produces = JSON,
     .schema = "Dataset", .summary = "The newest version of a dataset"},
    {"GET", "/v1/datasets/{name}/versions/{version}", api_dataset_get, .status = 200,
     .produces = JSON, .schema = "Dataset", .summary = "A version of a dataset"},
    {"DELETE", "/v1/datasets/{name}", api_dataset_delete, .status = 204,
     .summary = "Delete a dataset with all its versions"},
    {"DELETE", "/v1/datasets/{name}/versions/{version}", api_dataset_delete, .status = 204,
     .summary = "Delete a version of a dataset"},

    {"POST", "/v1/jobs", api_job_post, .body = API_BODY_JSON, .consumes = JSON,
     .headers = job_headers, .status = 202, .produces = JSON, .schema = "Job",
     .summary = "Submit a job; 200 when the Idempotency-Key was used for it before"},
    {"POST", "/v1/plan", api_plan_post, .body = API_BODY_JSON, .consumes = JSON, .status = 200,
     .produces = JSON, .schema = "Plan",
     .summary = "What each step of a job would weigh; nothing is run on data, and nothing kept"},
    {"GET", "/v1/jobs", api_job_list, .query = job_list_query, .status = 200, .produces = JSON,
     .schema = "JobList", .summary = "The jobs, newest first"},
    {"GET", "/v1/jobs/{id}", api_job_get, .query = job_query, .status = 200, .produces = JSON,
     .schema = "Job", .summary = "A job; ?wait= waits for its end"},
    {"DELETE", "/v1/jobs/{id}", api_job_delete, .status = 204,
     .summary = "Delete a job that has ended, with its artifacts"},
    {"POST", "/v1/jobs/{id}/cancel", api_job_cancel, .status = 202, .produces = JSON,
     .schema = "Job", .summary = "Ask a job to stop"},
    {"POST", "/v1/jobs/{id}/retry", api_job_retry, .status = 202, .produces = JSON,
     .schema = "Job", .summary = "Queue a job again that failed, was lost or cancelled"},
    {"GET", "/v1/jobs/{id}/report", api_job_report, .status = 200, .produces = JSON,
     .schema = "Report", .summary = "What each step did, its metrics and warnings"},
    {"GET", "/v1/jobs/{id}/events", api_job_events, .query = events_query,
     .headers = events_headers, .status = 200, .produces = SSE, .summary = "The events of a job"},
    {"GET", "/v1/jobs/{id}/artifacts", api_job_artifacts, .status = 200, .produces = JSON,
     .schema = "Artifacts", .summary = "The models that the steps made"},
    {"GET", "/v1/jobs/{id}/artifacts/content", api_artifact_content, .headers = content_headers,
     .status = 200, .produces = BYTES, .summary = "The model of the last step"},
    {"GET", "/v1/jobs/{id}/artifacts/{step}/content", api_artifact_content,
     .headers = content_headers, .status = 200, .produces = BYTES,
     .summary = "The model of a step"},

    {"GET", "/v1/events", api_all_events, .query = events_query, .headers = events_headers,
     .status = 200, .produces = SSE, .summary = "The events of all jobs, from now on"},
    {"GET", "/v1/blobs/{digest}", api_blob_get, .headers = content_headers, .status = 200,
     .produces = BYTES, .summary = "Stored bytes by their sha256:…"},
    {"GET", "/v1/compare", api_compare_get, .query = compare_query, .status = 200,
     .produces = JSON " text/csv text/markdown text/plain", .schema = "Comparison",
     .summary = "One table of the jobs' originals and results"},
};
/* clang-format on */
const size_t api_route_count = SHR_COUNT_OF(api_routes);
