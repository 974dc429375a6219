/* The reaper; see reaper.h. */
#include "reaper.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "clock.h"

void api_reaper_init(struct api_reaper *reaper, unsigned header_s, unsigned idle_s,
                     uint64_t min_body_rate)
{
    *reaper = (struct api_reaper){
        .header_ms = header_s * UINT64_C(1000),
        .idle_ms = idle_s * UINT64_C(1000),
        .min_body_rate = min_body_rate,
    };
    pthread_mutex_init(&reaper->lock, NULL);
}

void api_reaper_destroy(struct api_reaper *reaper)
{
    pthread_mutex_destroy(&reaper->lock);
}

struct api_slot *api_slot_new(struct api_reaper *reaper, int fd, const char *peer)
{
    struct api_slot *slot = shr_mem_new(1, sizeof *slot);
    if (slot == NULL) {
        return NULL;
    }
    slot->fd = fd;
    slot->phase = API_PHASE_HEADERS;
    slot->since_ms = api_now_ms();
    slot->deadline_ms = slot->since_ms + reaper->header_ms;
    snprintf(slot->peer, sizeof slot->peer, "%s", peer);

    pthread_mutex_lock(&reaper->lock);
    slot->next = reaper->first;
    if (slot->next != NULL) {
        slot->next->prev = slot;
    }
    reaper->first = slot;
    reaper->count++;
    pthread_mutex_unlock(&reaper->lock);
    return slot;
}

void api_slot_free(struct api_reaper *reaper, struct api_slot *slot)
{
    if (slot == NULL) {
        return;
    }
    pthread_mutex_lock(&reaper->lock);
    if (slot->next != NULL) {
        slot->next->prev = slot->prev;
    }
    *(slot->prev != NULL ? &slot->prev->next : &reaper->first) = slot->next;
    reaper->count--;
    pthread_mutex_unlock(&reaper->lock);
    shr_mem_free(slot);
}

void api_slot_enter(struct api_reaper *reaper, struct api_slot *slot, enum api_phase phase)
{
    if (slot == NULL) {
        return;
    }
    uint64_t now = api_now_ms();
    pthread_mutex_lock(&reaper->lock);
    slot->phase = phase;
    slot->since_ms = now;
    slot->deadline_ms = now + reaper->idle_ms + reaper->header_ms;
    slot->body_bytes = 0;
    pthread_mutex_unlock(&reaper->lock);
}

void api_slot_count(struct api_reaper *reaper, struct api_slot *slot, uint64_t body_bytes)
{
    if (slot == NULL) {
        return;
    }
    pthread_mutex_lock(&reaper->lock);
    slot->body_bytes = body_bytes;
    pthread_mutex_unlock(&reaper->lock);
}

static bool is_late(const struct api_reaper *reaper, const struct api_slot *slot, uint64_t now)
{
    if (slot->phase == API_PHASE_HEADERS) {
        return now > slot->deadline_ms;
    }
    uint64_t took_s = now > slot->since_ms ? (now - slot->since_ms) / 1000 : 0;
    return slot->phase == API_PHASE_BODY && took_s > API_BODY_GRACE_S &&
           slot->body_bytes / took_s < reaper->min_body_rate;
}

unsigned api_reaper_sweep(struct api_reaper *reaper, uint64_t now_ms)
{
    unsigned n = 0;
    pthread_mutex_lock(&reaper->lock);
    for (struct api_slot *slot = reaper->first; slot != NULL; slot = slot->next) {
        if (is_late(reaper, slot, now_ms)) {
            shutdown(slot->fd, SHUT_RDWR);
            slot->phase = API_PHASE_ANSWER; /* once is enough */
            n++;
        }
    }
    reaper->reaped += n;
    pthread_mutex_unlock(&reaper->lock);
    return n;
}

unsigned api_reaper_drain(struct api_reaper *reaper)
{
    pthread_mutex_lock(&reaper->lock);
    for (struct api_slot *slot = reaper->first; slot != NULL; slot = slot->next) {
        if (slot->phase == API_PHASE_HEADERS) {
            shutdown(slot->fd, SHUT_RDWR);
        }
    }
    unsigned count = reaper->count;
    pthread_mutex_unlock(&reaper->lock);
    return count;
}

void api_reaper_totals(struct api_reaper *reaper, unsigned *ret_open, uint64_t *ret_reaped)
{
    pthread_mutex_lock(&reaper->lock);
    *ret_open = reaper->count;
    *ret_reaped = reaper->reaped;
    pthread_mutex_unlock(&reaper->lock);
}
