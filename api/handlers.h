/* The handlers that routes.c lists; each is in the file of its resource. Thread: http. */
#ifndef API_HANDLERS_H
#define API_HANDLERS_H

#include "http.h"

/* ui.c */
int api_ui_get(struct api_request *req, struct shr_err *err);

/* health.c */
int api_live_get(struct api_request *req, struct shr_err *err);
int api_ready_get(struct api_request *req, struct shr_err *err);
int api_metrics_get(struct api_request *req, struct shr_err *err);
int api_about_get(struct api_request *req, struct shr_err *err);
int api_storage_get(struct api_request *req, struct shr_err *err);

/* openapi.c, passes.c, compare.c */
int api_openapi_get(struct api_request *req, struct shr_err *err);
int api_passes_get(struct api_request *req, struct shr_err *err);
int api_compare_get(struct api_request *req, struct shr_err *err);

/* models.c */
int api_model_begin(struct api_request *req, struct shr_err *err);
int api_model_chunk(struct api_request *req, const struct api_chunk *chunk, struct shr_err *err);
int api_model_put(struct api_request *req, struct shr_err *err);
int api_model_list(struct api_request *req, struct shr_err *err);
int api_model_get(struct api_request *req, struct shr_err *err);
int api_model_delete(struct api_request *req, struct shr_err *err);
int api_model_content(struct api_request *req, struct shr_err *err);

/* datasets.c */
int api_dataset_begin(struct api_request *req, struct shr_err *err);
int api_dataset_chunk(struct api_request *req, const struct api_chunk *chunk, struct shr_err *err);
int api_dataset_put(struct api_request *req, struct shr_err *err);
int api_dataset_list(struct api_request *req, struct shr_err *err);
int api_dataset_get(struct api_request *req, struct shr_err *err);
int api_dataset_delete(struct api_request *req, struct shr_err *err);

/* jobs.c */
int api_job_post(struct api_request *req, struct shr_err *err);
int api_job_list(struct api_request *req, struct shr_err *err);
int api_job_get(struct api_request *req, struct shr_err *err);
int api_job_delete(struct api_request *req, struct shr_err *err);
int api_job_cancel(struct api_request *req, struct shr_err *err);
int api_job_retry(struct api_request *req, struct shr_err *err);
int api_job_report(struct api_request *req, struct shr_err *err);
int api_job_artifacts(struct api_request *req, struct shr_err *err);

/* plans.c */
int api_plan_post(struct api_request *req, struct shr_err *err);

/* blobs.c */
int api_artifact_content(struct api_request *req, struct shr_err *err);
int api_blob_get(struct api_request *req, struct shr_err *err);

/* events.c */
int api_job_events(struct api_request *req, struct shr_err *err);
int api_all_events(struct api_request *req, struct shr_err *err);

#endif
