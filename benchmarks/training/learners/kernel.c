/* One epoch of the classic network in plain C: what a core can do without BLAS, calls or Python.

   784 pixels, HIDDEN and OUTPUTS sigmoid neurons, quadratic loss, mini-batches of BATCH, the last may be
   shorter. Weights are (I, O), a row a pixel; where all images of a mini-batch have 0, both passes skip the
   row. The compiler turns the two innermost loops of either pass into vectors held in registers. */

#include <math.h>
#include <stdint.h>

#define PIXELS 784
#define OUTPUTS 10

/* A row of the first weights fills whole vectors; what is beyond HIDDEN is 0, and stays so. */
#define ROW ((HIDDEN + 15) / 16 * 16)

static float sigmoid(float z) { return 1.0f / (1.0f + expf(-z)); }

static void learn(const uint8_t *images, const uint8_t *labels, const int32_t *order, int count, float rate,
                  float (*restrict w1)[ROW], float *restrict b1, float (*restrict w2)[OUTPUTS],
                  float *restrict b2)
{
    static float x[BATCH][PIXELS]; /* beyond count: older images, whose errors below are 0 */
    uint8_t ink[PIXELS] = {0};
    float z[BATCH][ROW] = {{0}}, a1[BATCH][HIDDEN], a2[BATCH][OUTPUTS];
    float d1[BATCH][ROW] = {{0}}, d2[BATCH][OUTPUTS]; /* errors, times the step */

    for (int e = 0; e < count; e++) {
        const uint8_t *image = images + (int64_t)order[e] * PIXELS;
        for (int i = 0; i < PIXELS; i++) {
            x[e][i] = image[i];
            ink[i] |= image[i];
        }
    }
    for (int i = 0; i < PIXELS; i++)
        if (ink[i])
            for (int e = 0; e < BATCH; e++)
                for (int j = 0; j < ROW; j++)
                    z[e][j] += x[e][i] * w1[i][j];
    for (int e = 0; e < count; e++) {
        for (int j = 0; j < HIDDEN; j++)
            a1[e][j] = sigmoid(z[e][j] * (1.0f / 255) + b1[j]);
        for (int k = 0; k < OUTPUTS; k++)
            a2[e][k] = b2[k];
        for (int j = 0; j < HIDDEN; j++)
            for (int k = 0; k < OUTPUTS; k++)
                a2[e][k] += a1[e][j] * w2[j][k];
        for (int k = 0; k < OUTPUTS; k++) {
            const float a = sigmoid(a2[e][k]);
            d2[e][k] = rate / count * (a - (labels[order[e]] == k)) * a * (1 - a);
        }
        for (int j = 0; j < HIDDEN; j++) {
            float sum = 0;
            for (int k = 0; k < OUTPUTS; k++)
                sum += w2[j][k] * d2[e][k];
            d1[e][j] = sum * a1[e][j] * (1 - a1[e][j]);
        }
    }
    for (int e = 0; e < count; e++) {
        for (int k = 0; k < OUTPUTS; k++)
            b2[k] -= d2[e][k];
        for (int j = 0; j < HIDDEN; j++) {
            for (int k = 0; k < OUTPUTS; k++)
                w2[j][k] -= a1[e][j] * d2[e][k];
            b1[j] -= d1[e][j];
            d1[e][j] *= 1.0f / 255;
        }
    }
    for (int i = 0; i < PIXELS; i++)
        if (ink[i])
            for (int e = 0; e < BATCH; e++)
                for (int j = 0; j < ROW; j++)
                    w1[i][j] -= x[e][i] * d1[e][j];
}

void epoch(const uint8_t *images, const uint8_t *labels, const int32_t *order, int64_t count, float rate,
           float (*w1)[ROW], float *b1, float (*w2)[OUTPUTS], float *b2)
{
    for (int64_t start = 0; start < count; start += BATCH) {
        const int64_t left = count - start;
        learn(images, labels, order + start, left < BATCH ? (int)left : BATCH, rate, w1, b1, w2, b2);
    }
}
