/* Padding the faces of cubes, one channel of six faces at a time, so that what was just copied is
   still in the cache when the rim reads it. What a rim is: sal360/nn/rim.py; who calls this and
   vouches for every address and size: sal360/nn/rim_native.py. Building it is optional. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    Py_ssize_t cubes, channels, size, rows, cols, inside; /* inside: of the padded face's texels,
                                                             the one where the face begins */
    Py_ssize_t copies, sums;
    const int64_t *take, *put;            /* of a cube's six faces, and of the six padded ones */
    const int64_t *mixed, *starts, *part; /* a sum's texel, its first part, the parts' texels */
    const void *weights;                  /* of the parts */
} Rim;

#define WAYS(T)                                                                                   \
    static void pad_##T(const T *from, T *to, const Rim *r, int threads)                          \
    {                                                                                             \
        const Py_ssize_t face = r->size * r->size, padded = r->rows * r->cols;                    \
        const T *weights = (const T *)r->weights;                                                 \
        _Pragma("omp parallel for num_threads(threads) if(threads > 1)")                          \
        for (Py_ssize_t k = 0; k < r->cubes * r->channels; k++) {                                 \
            const Py_ssize_t first = k / r->channels * 6 * r->channels + k % r->channels;         \
            const T *x = from + first * face;                                                     \
            T *y = to + first * padded;                                                           \
            for (Py_ssize_t f = 0; f < 6; f++)                                                    \
                for (Py_ssize_t i = 0; i < r->size; i++)                                          \
                    memcpy(y + f * r->channels * padded + r->inside + i * r->cols,                \
                           x + f * r->channels * face + i * r->size, r->size * sizeof(T));        \
            for (Py_ssize_t n = 0; n < r->copies; n++)                                            \
                y[r->put[n]] = x[r->take[n]];                                                     \
            for (Py_ssize_t n = 0; n < r->sums; n++) {                                            \
                T sum = 0;                                                                        \
                for (int64_t p = r->starts[n]; p < r->starts[n + 1]; p++)                         \
                    sum += weights[p] * x[r->part[p]];                                            \
                y[r->mixed[n]] = sum;                                                             \
            }                                                                                     \
        }                                                                                         \
    }                                                                                             \
    static void unpad_##T(const T *from, T *to, const Rim *r, int threads)                        \
    {                                                                                             \
        const Py_ssize_t face = r->size * r->size, padded = r->rows * r->cols;                    \
        const T *weights = (const T *)r->weights;                                                 \
        _Pragma("omp parallel for num_threads(threads) if(threads > 1)")                          \
        for (Py_ssize_t k = 0; k < r->cubes * r->channels; k++) {                                 \
            const Py_ssize_t first = k / r->channels * 6 * r->channels + k % r->channels;         \
            const T *y = from + first * padded;                                                   \
            T *x = to + first * face;                                                             \
            for (Py_ssize_t f = 0; f < 6; f++)                                                    \
                for (Py_ssize_t i = 0; i < r->size; i++)                                          \
                    memcpy(x + f * r->channels * face + i * r->size,                              \
                           y + f * r->channels * padded + r->inside + i * r->cols,                \
                           r->size * sizeof(T));                                                  \
            for (Py_ssize_t n = 0; n < r->copies; n++)                                            \
                x[r->take[n]] += y[r->put[n]];                                                    \
            for (Py_ssize_t n = 0; n < r->sums; n++)                                              \
                for (int64_t p = r->starts[n]; p < r->starts[n + 1]; p++)                         \
                    x[r->part[p]] += weights[p] * y[r->mixed[n]];                                 \
        }                                                                                         \
    }

WAYS(float)
WAYS(double)

typedef void (*Way)(const void *, void *, const Rim *, int);

static PyObject *run(PyObject *args, Way floats, Way doubles)
{
    Rim r;
    Py_ssize_t from, to, bytes, take, put, mixed, starts, part, weights;
    int threads;
    if (!PyArg_ParseTuple(args, "nninn(nnnnnnnnnnnnn)", &from, &to, &threads, &r.cubes,
                          &r.channels, &bytes, &r.size, &r.rows, &r.cols, &r.inside, &r.copies,
                          &r.sums, &take, &put, &mixed, &starts, &part, &weights))
        return NULL;
    r.take = (const int64_t *)take, r.put = (const int64_t *)put;
    r.mixed = (const int64_t *)mixed, r.starts = (const int64_t *)starts;
    r.part = (const int64_t *)part, r.weights = (const void *)weights;
    Py_BEGIN_ALLOW_THREADS
    (bytes == 4 ? floats : doubles)((const void *)from, (void *)to, &r, threads);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *pad(PyObject *module, PyObject *args)
{
    (void)module;
    return run(args, (Way)pad_float, (Way)pad_double);
}

static PyObject *unpad(PyObject *module, PyObject *args)
{
    (void)module;
    return run(args, (Way)unpad_float, (Way)unpad_double);
}

static PyMethodDef methods[] = {
    {"pad", pad, METH_VARARGS, "pad(from, to, threads, cubes, channels, rim)"},
    {"unpad", unpad, METH_VARARGS, "unpad(from, to, threads, cubes, channels, rim)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_rim", "Padding the faces of cubes, compiled.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__rim(void) { return PyModule_Create(&module); }
