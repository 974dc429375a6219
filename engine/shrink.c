/* The parts of shrink.h that belong to no folder of the engine: context and reports. */
#include "shrink.h"

#include <stdarg.h>
#include <stdio.h>

int shr_ctx_poll(const struct shr_ctx *ctx, struct shr_err *err)
{
    if (ctx != NULL && ctx->cancel != NULL &&
        atomic_load_explicit(ctx->cancel, memory_order_relaxed)) {
        return shr_err_set(err, SHR_ERR_CANCELLED, "cancelled");
    }
    return SHR_OK;
}

void shr_ctx_tell(const struct shr_ctx *ctx, const char *stage, uint64_t done, uint64_t total)
{
    if (ctx != NULL && ctx->progress != NULL) {
        ctx->progress(ctx->user, stage, done, total);
    }
}

void shr_ctx_figure(const struct shr_ctx *ctx, const char *series, uint64_t at, double value)
{
    if (ctx != NULL && ctx->figure != NULL) {
        ctx->figure(ctx->user, series, at, value);
    }
}

int shr_ctx_checkpoint(const struct shr_ctx *ctx, const void *bytes, size_t n, struct shr_err *err)
{
    return ctx != NULL && ctx->checkpoint != NULL ? ctx->checkpoint(ctx->user, bytes, n, err)
                                                  : SHR_OK;
}

struct shr_note *shr_report_note(struct shr_report *report, enum shr_note_kind kind,
                                 const char *subject, const char *format, ...)
{
    if (report == NULL) {
        return NULL;
    }

    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);

    struct shr_note *note = shr_arena_new(&report->arena, 1, sizeof *note);
    if (note == NULL) {
        return NULL;
    }
    note->kind = kind;
    note->subject = shr_arena_strdup(&report->arena, subject);
    note->text = shr_arena_strdup(&report->arena, text);
    if (note->subject == NULL || note->text == NULL) {
        return NULL;
    }
    if (report->last == NULL) {
        report->first = note;
    } else {
        report->last->next = note;
    }
    report->last = note;
    report->n++;
    return note;
}

void shr_note_figure(struct shr_note *note, const char *name, double value)
{
    if (note != NULL && note->n_figures < SHR_NOTE_FIGURES) {
        note->figures[note->n_figures++] = (struct shr_figure){name, value};
    }
}

void shr_report_finish(struct shr_report *report)
{
    shr_arena_finish(&report->arena);
    *report = (struct shr_report){0};
}
