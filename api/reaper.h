/* The reaper: a wall clock for every connection.
 *
 * The HTTP library only has an idle timer, which a client resets with one byte. Here a request's
 * headers have a deadline, and a body an average rate; who misses them loses the socket. A slot
 * lives as long as its connection's fd, so that the fd is ours when it is shut down.
 * Thread: any. */
#ifndef API_REAPER_H
#define API_REAPER_H

#include <pthread.h>
#include <stdint.h>

#include "base/attr.h"

enum { API_BODY_GRACE_S = 10, API_PEER_SIZE = 48 };

enum api_phase {
    API_PHASE_HEADERS, /* the deadline counts */
    API_PHASE_BODY,    /* the rate counts */
    API_PHASE_ANSWER,  /* our turn: neither */
};

struct api_slot {
    struct api_slot *next, *prev;
    int fd;
    enum api_phase phase;
    uint64_t since_ms, deadline_ms, body_bytes;
    char peer[API_PEER_SIZE]; /* for the log */
};

struct api_reaper {
    pthread_mutex_t lock;
    struct api_slot *first;
    unsigned count;
    uint64_t reaped; /* in all */
    uint64_t header_ms, idle_ms, min_body_rate;
};

void api_reaper_init(struct api_reaper *reaper, unsigned header_s, unsigned idle_s,
                     uint64_t min_body_rate);
void api_reaper_destroy(struct api_reaper *reaper);

/* A connection was opened; NULL when out of memory. */
struct api_slot *api_slot_new(struct api_reaper *reaper, int fd, const char *peer);
void api_slot_free(struct api_reaper *reaper, struct api_slot *slot);
/* slot may be NULL: a connection without one is not watched. HEADERS begins the wait for the next
 * request on a connection that is kept. */
void api_slot_enter(struct api_reaper *reaper, struct api_slot *slot, enum api_phase phase);
void api_slot_count(struct api_reaper *reaper, struct api_slot *slot, uint64_t body_bytes);

/* Shuts down who is late; how many. */
unsigned api_reaper_sweep(struct api_reaper *reaper, uint64_t now_ms);
/* Shuts down every connection that has no request under way; how many connections are left. */
unsigned api_reaper_drain(struct api_reaper *reaper);
void api_reaper_totals(struct api_reaper *reaper, unsigned *ret_open, uint64_t *ret_reaped);

#endif
