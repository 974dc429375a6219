/* Files for the tests of the ONNX reader. */
#ifndef SHR_TESTS_ONNX_FILES_H
#define SHR_TESTS_ONNX_FILES_H

#include "base/buf.h"

/* The bytes of folder/name; the test fails when they cannot be read. */
struct shr_buf read_file(const char *folder, const char *name);

#endif
