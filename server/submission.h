/* A job as a client describes it, with all that it names found: what POST /v1/jobs and POST
 * /v1/plan check alike. Thread: any. */
#ifndef SRV_SUBMISSION_H
#define SRV_SUBMISSION_H

#include "jobs/recipe.h"
#include "srv.h"

struct srv_submission { /* all zero = empty */
    struct job_recipe recipe;
    struct store_item model;
    json_t *ids;             /* what the names stood for when the job was accepted */
    char *recipe_text;       /* {"job": canonical recipe, "ids": …} */
    struct shr_buf datasets; /* ids of them and of other models, separated by a blank */
};

/* Parses and resolves a request; finish it also on failure. PARSE, INVALID, NOT_FOUND. */
int srv_submission_make(struct srv *srv, const char *body, size_t n, struct srv_submission *s,
                        struct shr_err *err) SHR_MUSTCHECK;
void srv_submission_finish(struct srv_submission *s);

#endif
