/* A team of threads; see team.h.
 *
 * `left` counts the tasks of the current run that nobody has taken. A thread takes one by lowering
 * it, and only reads fn, arg and n afterwards: as long as a taken task is not done the caller
 * waits, so they belong to the run that the task is of, even for a thread that comes late. */
#include "core/team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/mem.h"

enum {
    SPINS = 4000, /* looks at `left` before a thread sleeps: some tens of microseconds */
    LINE = 64     /* bytes: counters that different threads write lie apart */
};

struct worker {
    struct shr_team *team;
    size_t index;
    pthread_t thread;
};

struct shr_team {
    shr_team_fn fn;
    void *arg;
    size_t n;
    _Alignas(LINE) atomic_size_t left;
    _Alignas(LINE) atomic_size_t done;
    _Alignas(LINE) atomic_size_t sleeping;
    atomic_bool stop;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    size_t n_workers; /* beside the caller */
    struct worker worker[];
};

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Takes one task and does it; false when none is left. */
static bool work(struct shr_team *team, size_t worker)
{
    size_t left = atomic_load(&team->left);
    do {
        if (left == 0) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&team->left, &left, left - 1));
    team->fn(team->arg, team->n - left, worker);
    atomic_fetch_add(&team->done, 1);
    return true;
}

static bool idle(struct shr_team *team)
{
    return atomic_load(&team->left) == 0 && !atomic_load(&team->stop);
}

static void await_tasks(struct shr_team *team)
{
    for (int i = 0; i < SPINS; i++) {
        if (!idle(team)) {
            return;
        }
        relax();
    }
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add(&team->sleeping, 1);
    while (idle(team)) {
        pthread_cond_wait(&team->wake, &team->mutex);
    }
    atomic_fetch_sub(&team->sleeping, 1);
    pthread_mutex_unlock(&team->mutex);
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct shr_team *team = worker->team;
    while (!atomic_load(&team->stop)) {
        while (work(team, worker->index)) {
        }
        await_tasks(team);
    }
    return NULL;
}

static void wake_sleepers(struct shr_team *team)
{
    if (atomic_load(&team->sleeping) > 0) {
        pthread_mutex_lock(&team->mutex);
        pthread_cond_broadcast(&team->wake);
        pthread_mutex_unlock(&team->mutex);
    }
}

void shr_team_run(struct shr_team *team, size_t n, shr_team_fn fn, void *arg)
{
    if (team == NULL || team->n_workers == 0 || n <= 1) {
        for (size_t i = 0; i < n; i++) {
            fn(arg, i, 0);
        }
        return;
    }
    team->fn = fn;
    team->arg = arg;
    team->n = n;
    atomic_store(&team->done, 0);
    atomic_store(&team->left, n);
    wake_sleepers(team);
    while (work(team, 0)) {
    }
    for (int i = 0; atomic_load(&team->done) < n; i++) {
        if (i < SPINS) {
            relax();
        } else {
            sched_yield(); /* the thread with the last task is not running */
        }
    }
}

size_t shr_team_size(const struct shr_team *team)
{
    return team == NULL ? 1 : team->n_workers + 1;
}

/* Threads of a team take no signals: those are for the program around it. */
static int start(struct shr_team *team, size_t n)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    while (rc == 0 && team->n_workers < n) {
        struct worker *worker = &team->worker[team->n_workers];
        *worker = (struct worker){.team = team, .index = team->n_workers + 1};
        rc = pthread_create(&worker->thread, NULL, worker_main, worker);
        team->n_workers += rc == 0 ? 1 : 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

int shr_team_new(int threads, struct shr_team **ret, struct shr_err *err)
{
    if (threads < 1 || threads > SHR_TEAM_MAX) {
        return shr_err_set(err, SHR_ERR_LIMIT, "threads: %d is not between 1 and %d", threads,
                           SHR_TEAM_MAX);
    }
    size_t n = (size_t)threads - 1;
    struct shr_team *team = shr_mem_aligned(sizeof *team + n * sizeof team->worker[0]);
    if (team == NULL) {
        return shr_err_set(err, SHR_ERR_NOMEM, "out of memory for a team of %d threads", threads);
    }
    *team = (struct shr_team){.n_workers = 0};
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->wake, NULL);
    if (start(team, n) != 0) {
        size_t given = team->n_workers + 1;
        shr_team_free(team);
        return shr_err_set(err, SHR_ERR_LIMIT, "the system gave %zu of %d threads", given, threads);
    }
    *ret = team;
    return SHR_OK;
}

void shr_team_free(struct shr_team *team)
{
    if (team == NULL) {
        return;
    }
    atomic_store(&team->stop, true);
    wake_sleepers(team);
    for (size_t i = 0; i < team->n_workers; i++) {
        pthread_join(team->worker[i].thread, NULL);
    }
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->mutex);
    shr_mem_free(team);
}
