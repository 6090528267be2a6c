// Camera pixels become an engine's input in one pass: resize with Pillow's antialiased filters, crop, BGR to RGB.
//
// There is no normalisation here and no quantizer: an engine takes uint8 RGB in [H, W, 3], and mean, standard deviation,
// layout and input quantization are inside its graph, where TensorRT fuses them into the first kernel.
//
// The filters come as tables, one row per output row (y) or column (x): `first` is the first input pixel, `weights`
// [count, taps] what each of `taps` pixels adds, padded with zeros. They are preprocess.filter_weights(), so the host
// and the device resize alike. One thread makes one output pixel; blocks are two-dimensional.
//
// NVRTC compiles this file on the device. tests/runtime/test_preprocess_gpu.py compiles it with the host's compiler.

extern "C" __global__ void edgeclip_resize(
    const unsigned char* pixels,  // [height, width, 3] BGR
    int width,
    const int* first_y, const float* weights_y, int taps_y,
    const int* first_x, const float* weights_x, int taps_x,
    unsigned char* out,  // [rows, columns, 3] RGB
    int rows, int columns)
{
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    const int row = blockIdx.y * blockDim.y + threadIdx.y;
    if (row >= rows || column >= columns) return;
    const float* wy = weights_y + (long long)row * taps_y;
    const float* wx = weights_x + (long long)column * taps_x;
    float blue = 0.0f, green = 0.0f, red = 0.0f;
    for (int y = 0; y < taps_y; ++y) {
        if (wy[y] == 0.0f) continue;
        const unsigned char* line = pixels + 3LL * ((long long)(first_y[row] + y) * width + first_x[column]);
        float b = 0.0f, g = 0.0f, r = 0.0f;
        for (int x = 0; x < taps_x; ++x) {
            const float weight = wx[x];
            b += weight * line[3 * x];
            g += weight * line[3 * x + 1];
            r += weight * line[3 * x + 2];
        }
        blue += wy[y] * b;
        green += wy[y] * g;
        red += wy[y] * r;
    }
    unsigned char* pixel = out + 3LL * ((long long)row * columns + column);
    // Bicubic filters overshoot: clip, as Pillow does. Halves are rounded to even, as OpenCV does.
    pixel[0] = (unsigned char)rintf(fminf(fmaxf(red, 0.0f), 255.0f));
    pixel[1] = (unsigned char)rintf(fminf(fmaxf(green, 0.0f), 255.0f));
    pixel[2] = (unsigned char)rintf(fminf(fmaxf(blue, 0.0f), 255.0f));
}
