/* shrinkctl graph: a model of the disk as text, or its dependency groups. No server. */
#include <stdlib.h>

#include "run.h"

int cli_graph(const struct cli *cli, int argc, char **argv)
{
    (void)cli;
    struct cli_option groups = {.name = "groups", .is_flag = true};
    int words;
    if (!cli_options(argc, argv, &groups, 1, &words) || !cli_no_more(argv, words, 1)) {
        cli_options_free(&groups, 1);
        return CLI_USAGE;
    }
    const bool only_groups = groups.n > 0;
    cli_options_free(&groups, 1);
    struct shr_model *model = NULL;
    struct shr_buf text = {0};
    struct shr_err err = {0};
    int code = run_load(argv[0], &model, &err);
    if (code == 0) {
        code = only_groups ? shr_model_print_groups(model, &text, &err)
                           : shr_model_print(model, &text, &err);
    }
    if (code == 0) {
        fwrite(text.data, 1, text.len, stdout);
    } else {
        cli_error("%s", err.msg);
    }
    shr_buf_finish(&text);
    shr_model_free(model);
    return code == 0 ? CLI_OK : CLI_LOCAL;
}
