/* Readers of array files: npy, npz (a zip of npy) and idx.
 *
 * Input is hostile: every length is checked against what is there and against the budget before
 * memory is taken. Errors begin with the name of the source and tell the byte. Thread: any. */
#ifndef SHR_DATA_FILES_H
#define SHR_DATA_FILES_H

#include "core/tensor.h"
#include "data/source.h"

enum { SHR_NPZ_MAX_ARRAYS = 1024 };

/* Takes bytes for an array of this type and shape from *budget and makes the tensor; LIMIT when the
 * budget is smaller, PARSE when the source cannot hold so much. */
int shr_array_new(const struct shr_source *src, enum shr_dtype dtype, int rank, const int64_t *dim,
                  uint64_t *budget, struct shr_tensor *ret, struct shr_err *err) SHR_MUSTCHECK;
/* Reads the elements; big-endian ones are turned round. */
int shr_array_read(struct shr_source *src, bool big_endian, struct shr_tensor *tensor,
                   struct shr_err *err) SHR_MUSTCHECK;

/* "f4" of float32; NULL: NumPy has no such type. */
const char *shr_npy_descr(enum shr_dtype dtype);

/* Versions 1 to 3 of numpy.lib.format; C order, numbers and bool of either byte order. */
int shr_npy_read(struct shr_source *src, uint64_t *budget, struct shr_tensor *ret,
                 struct shr_err *err) SHR_MUSTCHECK;

/* The files of MNIST: 0, 0, type, rank, dims, elements, all big-endian. */
int shr_idx_read(struct shr_source *src, uint64_t *budget, struct shr_tensor *ret,
                 struct shr_err *err) SHR_MUSTCHECK;

/* Called for each array in the order of the file; takes the tensor, also on failure. name is valid
 * during the call. */
typedef int (*shr_npz_fn)(void *user, const char *name, struct shr_tensor take_tensor,
                          struct shr_err *err);
int shr_npz_read(const char *file, const void *bytes, size_t n, uint64_t *budget, shr_npz_fn fn,
                 void *user, struct shr_err *err) SHR_MUSTCHECK;

#endif
