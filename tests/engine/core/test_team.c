/* core/team: every task runs once, whoever runs it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "core/team.h"

enum { TASKS = 37, ROUNDS = 2000, THREADS = 4 };

struct tally {
    atomic_int count[TASKS];
    atomic_int strangers; /* workers that the team does not have */
};

static void count(void *arg, size_t task, size_t worker)
{
    struct tally *tally = arg;
    atomic_fetch_add(&tally->count[task], 1);
    atomic_fetch_add(&tally->strangers, worker >= THREADS);
}

static void every_task_runs_once_in_every_round(void **state)
{
    (void)state;
    struct shr_err err = {0};
    struct shr_team *team;
    assert_int_equal(shr_team_new(THREADS, &team, &err), 0);
    assert_int_equal(shr_team_size(team), THREADS);
    struct tally tally;
    memset(&tally, 0, sizeof tally);
    for (int round = 1; round <= ROUNDS; round++) {
        size_t n = (size_t)(round % TASKS) + 1;
        shr_team_run(team, n, count, &tally);
    }
    int want[TASKS] = {0};
    for (int round = 1; round <= ROUNDS; round++) {
        for (int i = 0; i < round % TASKS + 1; i++) {
            want[i]++;
        }
    }
    for (int i = 0; i < TASKS; i++) {
        assert_int_equal(atomic_load(&tally.count[i]), want[i]);
    }
    assert_int_equal(atomic_load(&tally.strangers), 0);
    shr_team_free(team);
}

static void sleeping_threads_wake_for_the_next_round(void **state)
{
    (void)state;
    struct shr_err err = {0};
    struct shr_team *team;
    assert_int_equal(shr_team_new(2, &team, &err), 0);
    struct tally tally;
    memset(&tally, 0, sizeof tally);
    for (int round = 0; round < 20; round++) {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); /* longer than they spin */
        shr_team_run(team, TASKS, count, &tally);
    }
    for (int i = 0; i < TASKS; i++) {
        assert_int_equal(atomic_load(&tally.count[i]), 20);
    }
    shr_team_free(team);
}

static void append(void *arg, size_t task, size_t worker)
{
    char *text = arg;
    text[task] = (char)('a' + task);
    assert_int_equal(worker, 0);
    if (task > 0) {
        assert_int_equal(text[task - 1], 'a' + task - 1);
    }
}

static void no_team_means_here_and_in_order(void **state)
{
    (void)state;
    char text[6] = {0};
    shr_team_run(NULL, 5, append, text);
    assert_string_equal(text, "abcde");
    assert_int_equal(shr_team_size(NULL), 1);
    shr_team_run(NULL, 0, append, NULL);
    shr_team_free(NULL);
}

static void a_team_of_nobody_or_of_a_crowd_is_refused(void **state)
{
    (void)state;
    struct shr_err err = {0};
    struct shr_team *team;
    assert_int_equal(shr_team_new(0, &team, &err), SHR_ERR_LIMIT);
    assert_int_equal(shr_team_new(SHR_TEAM_MAX + 1, &team, &err), SHR_ERR_LIMIT);
    assert_string_equal(err.msg, "threads: 257 is not between 1 and 256");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once_in_every_round),
        cmocka_unit_test(sleeping_threads_wake_for_the_next_round),
        cmocka_unit_test(no_team_means_here_and_in_order),
        cmocka_unit_test(a_team_of_nobody_or_of_a_crowd_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
