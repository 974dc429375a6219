/* Models and datasets for the tests: the example models, and made-up images as idx. */
#ifndef TEST_SERVER_INPUTS_H
#define TEST_SERVER_INPUTS_H

#include "fixture.h"

struct input {
    unsigned char *bytes;
    size_t n;
};

/* examples/models/NAME.onnx, from $SHRINKD_EXAMPLES. */
struct input input_model(const char *name);
struct input input_images(uint8_t n, uint8_t height, uint8_t width);
struct input input_labels(uint8_t n, uint8_t classes);
void input_finish(struct input *input);

/* True when it is new; view may be NULL. */
bool put_model(struct fixture *f, const char *name, const struct input *model, json_t **ret_view);
void put_dataset(struct fixture *f, const char *name, const struct input *images,
                 const struct input *labels, json_t **ret_view);

#endif
