/* Datasets in memory, and how a batch of samples becomes the inputs of a plan.
 *
 * Arrays keep the type of the file (uint8 images stay uint8); conversion to the model's type,
 * scale, mean, std and layout happen when a batch is read. Immutable after load. Thread: any. */
#ifndef SHR_DATA_DATASET_H
#define SHR_DATA_DATASET_H

#include "core/tensor.h"
#include "data/augment.h"
#include "graph/graph.h"
#include "shrink.h"

struct shr_array {
    const char *name;
    struct shr_tensor tensor; /* dim[0] = samples */
};

struct shr_dataset {
    struct shr_arena arena;
    int64_t samples;
    size_t n_arrays;
    struct shr_array *arrays; /* without labels */
    int32_t *labels;          /* (samples) or NULL */
    int64_t n_classes;
    struct shr_dataset_opts opts; /* mean and std are copies */
};

/* Which array feeds which true input of the model: by name, or in order when there is as many of
 * each as the other. The product of the dims behind the first must agree (reshape is free), or
 * the array is a stack of whole inputs, (samples, …dims): a state whose first dim is no batch. */
struct shr_feed;
int shr_feed_new(const struct shr_dataset *data, const struct shr_model *model,
                 struct shr_feed **ret, struct shr_err *err) SHR_MUSTCHECK;
void shr_feed_free(struct shr_feed *feed);

/* Is a sample all of an input, whose first dim then says nothing of the batch? */
bool shr_feed_is_whole(const struct shr_feed *feed, size_t input);

/* How many samples a run takes at once, when the caller would take `batch`: one where a sample is
 * all of an input, as many as an input says whose first dim is fixed. */
int64_t shr_feed_batch(const struct shr_feed *feed, int64_t batch);

/* The exact type of a true input for this many rows: as declared, with batch for an open first dim
 * and the array's dims for the other open ones. Its symbols are gone. */
void shr_feed_type(const struct shr_feed *feed, size_t input, int64_t batch, struct shr_type *ret);
/* Those of all true inputs, in order; the caller's (shr_mem_free). */
int shr_feed_types(const struct shr_feed *feed, int64_t batch, struct shr_type **ret,
                   struct shr_err *err) SHR_MUSTCHECK;

/* Fills inputs (tensors of a plan, dim[0] = their batch) with samples first … first+count-1; rows
 * behind count repeat the last sample. */
int shr_feed_fill(const struct shr_feed *feed, int64_t first, int64_t count,
                  struct shr_tensor *const *inputs, size_t n_inputs,
                  struct shr_err *err) SHR_MUSTCHECK;

/* As above with a list of sample numbers (calibration and training draw at random). */
int shr_feed_fill_list(const struct shr_feed *feed, const int64_t *samples, int64_t count,
                       struct shr_tensor *const *inputs, size_t n_inputs,
                       struct shr_err *err) SHR_MUSTCHECK;

/* From now on, images are augmented in epochs from 0 on, and the feed is of one thread. An image is
 * an array of float32 inputs of (N, C, H, W) or (N, H, W). INVALID when there is none, or when a
 * shift is larger than an image. */
int shr_feed_augment(struct shr_feed *feed, const struct shr_augment *augment,
                     struct shr_err *err) SHR_MUSTCHECK;
/* -1, the first: images come as they are. */
void shr_feed_set_epoch(struct shr_feed *feed, int64_t epoch);

#endif
