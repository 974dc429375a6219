/* Cells of recurrent layers in training, for the vector libraries. */
#include "kernels/internal.h"
#include "kernels/vf.h"

#define NAME VF_NAME
#include "kernels/rnn_cell.inc"
