/* The operators of ai.onnx that have no row, and why: the other half of the table, for people.
 * Tests prove that the two halves are all of ONNX and do not overlap. Immutable. Thread: any. */
#include "ops/op.h"

static const char STRINGS[] = "texts: tensors of strings are not computed with";
static const char SEQUENCES[] = "sequences and optionals are not values of a plan";
static const char RANDOM[] = "its result is random, so it can be compared with nothing";
static const char DATA[] = "the shape of its result depends on data, a plan has fixed shapes";
static const char IMAGES[] = "decodes files, which belongs in front of a model";
static const char LOSSES[] = "a loss: for training, not in models that are run";
static const char DETECTION[] = "only in detection models, which are not run yet";
static const char SIGNALS[] = "signal processing, in no model that was asked for";
static const char RARE[] = "no exporter writes it for the models that were asked for";
static const char YOUNG[] = "new in ONNX, and written by no exporter yet";

/* Sorted. */
static const struct shr_op_absent absent[] = {
    {"AffineGrid", RARE},
    {"Attention", YOUNG},
    {"Bernoulli", RANDOM},
    {"BitCast", YOUNG},
    {"BlackmanWindow", SIGNALS},
    {"CausalConvWithState", YOUNG},
    {"CenterCropPad", RARE},
    {"Col2Im", RARE},
    {"Compress", DATA},
    {"ConcatFromSequence", SEQUENCES},
    {"ConvTranspose", RARE},
    {"CumProd", RARE},
    {"CumSum", RARE},
    {"DFT", SIGNALS},
    {"DeformConv", RARE},
    {"DepthToSpace", RARE},
    {"Det", RARE},
    {"Einsum", RARE},
    {"EyeLike", RARE},
    {"GatherElements", RARE},
    {"GatherND", RARE},
    {"GlobalLpPool", RARE},
    {"GridSample", RARE},
    {"GroupNormalization", RARE},
    {"HammingWindow", SIGNALS},
    {"HannWindow", SIGNALS},
    {"Hardmax", RARE},
    {"ImageDecoder", IMAGES},
    {"LRN", RARE},
    {"LinearAttention", YOUNG},
    {"LpNormalization", RARE},
    {"LpPool", RARE},
    {"MaxRoiPool", DETECTION},
    {"MaxUnpool", RARE},
    {"MeanVarianceNormalization", RARE},
    {"MelWeightMatrix", SIGNALS},
    {"Multinomial", RANDOM},
    {"NegativeLogLikelihoodLoss", LOSSES},
    {"NonMaxSuppression", DETECTION},
    {"NonZero", DATA},
    {"OneHot", RARE},
    {"Optional", SEQUENCES},
    {"OptionalGetElement", SEQUENCES},
    {"OptionalHasElement", SEQUENCES},
    {"RMSNormalization", RARE},
    {"RandomNormal", RANDOM},
    {"RandomNormalLike", RANDOM},
    {"RandomUniform", RANDOM},
    {"RandomUniformLike", RANDOM},
    {"ReduceLogSumExp", RARE},
    {"RegexFullMatch", STRINGS},
    {"Resize", RARE},
    {"ReverseSequence", RARE},
    {"RoiAlign", DETECTION},
    {"RotaryEmbedding", YOUNG},
    {"STFT", SIGNALS},
    {"Scatter", RARE},
    {"ScatterElements", RARE},
    {"ScatterND", RARE},
    {"SequenceAt", SEQUENCES},
    {"SequenceConstruct", SEQUENCES},
    {"SequenceEmpty", SEQUENCES},
    {"SequenceErase", SEQUENCES},
    {"SequenceInsert", SEQUENCES},
    {"SequenceLength", SEQUENCES},
    {"SequenceMap", SEQUENCES},
    {"Shrink", RARE},
    {"SoftmaxCrossEntropyLoss", LOSSES},
    {"SpaceToDepth", RARE},
    {"SplitToSequence", SEQUENCES},
    {"StringConcat", STRINGS},
    {"StringNormalizer", STRINGS},
    {"StringSplit", STRINGS},
    {"SwiGLU", YOUNG},
    {"TensorScatter", YOUNG},
    {"TfIdfVectorizer", STRINGS},
    {"TopK", RARE},
    {"Trilu", RARE},
    {"Unique", DATA},
    {"Upsample", RARE},
};

size_t shr_op_absent_count(void)
{
    return SHR_COUNT_OF(absent);
}

struct shr_op_absent shr_op_absent_at(size_t i)
{
    return absent[i];
}
