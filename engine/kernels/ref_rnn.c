/* Reference kernels: cells of recurrent layers in training. */
#include "kernels/internal.h"

#define NAME(name) shr__##name##_ref
#include "kernels/rnn_cell.inc"
