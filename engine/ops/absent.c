/* The operators of ai.onnx that have no row, and why: the other half of the table, for people.
 * Tests prove that the two halves are all of ONNX and do not overlap. Immutable. Thread: any. */
#include "ops/op.h"

static const char STRINGS[] = "texts: tensors of strings are not computed with";
static const char SEQUENCES[] = "sequences and optionals are not values of a plan";
static const char RANDOM[] = "its result is random, so it can be compared with nothing";
static const char DATA[] = "the shape of its result depends on data, a plan has fixed shapes";
static const char IMAGES[] = "decodes files, which belongs in front of a model";
static const char DETECTION[] = "only in detection models, which are not run yet";
static const char RARE[] = "no exporter writes it for the models that were asked for";
static const char YOUNG[] = "new in ONNX, and written by no exporter yet";

/* Sorted. */
static const struct shr_op_absent absent[] = {
    {"Bernoulli", RANDOM},
    {"CausalConvWithState", YOUNG},
    {"ConcatFromSequence", SEQUENCES},
    {"DeformConv", RARE},
    {"ImageDecoder", IMAGES},
    {"LinearAttention", YOUNG},
    {"MaxRoiPool", DETECTION},
    {"Multinomial", RANDOM},
    {"NonMaxSuppression", DATA},
    {"Optional", SEQUENCES},
    {"OptionalGetElement", SEQUENCES},
    {"OptionalHasElement", SEQUENCES},
    {"RandomNormal", RANDOM},
    {"RandomNormalLike", RANDOM},
    {"RandomUniform", RANDOM},
    {"RandomUniformLike", RANDOM},
    {"RegexFullMatch", STRINGS},
    {"SequenceAt", SEQUENCES},
    {"SequenceConstruct", SEQUENCES},
    {"SequenceEmpty", SEQUENCES},
    {"SequenceErase", SEQUENCES},
    {"SequenceInsert", SEQUENCES},
    {"SequenceLength", SEQUENCES},
    {"SequenceMap", SEQUENCES},
    {"SplitToSequence", SEQUENCES},
    {"StringConcat", STRINGS},
    {"StringNormalizer", STRINGS},
    {"StringSplit", STRINGS},
    {"TfIdfVectorizer", STRINGS},
};

size_t shr_op_absent_count(void)
{
    return SHR_COUNT_OF(absent);
}

struct shr_op_absent shr_op_absent_at(size_t i)
{
    return absent[i];
}
