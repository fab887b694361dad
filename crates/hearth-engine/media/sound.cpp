// The decoder of sounds.
#include "shim.h"

#include <cstdlib>
#include <cstring>

#define MINIAUDIO_IMPLEMENTATION
#define MA_NO_ENCODING
#define MA_NO_DEVICE_IO
#define MA_NO_RESOURCE_MANAGER
#define MA_NO_NODE_GRAPH
#define MA_NO_ENGINE
#define MA_NO_GENERATION
#define MA_API static
#include "miniaudio/miniaudio.h"

static char * give(const char * text) {
    char * out = static_cast<char *>(std::malloc(std::strlen(text) + 1));
    if (out != nullptr) {
        std::strcpy(out, text);
    }
    return out;
}

// Samples read at a time: a header may claim any length.
static const size_t STEP = 1 << 16;

char * hearth_sound_decode(const uint8_t * bytes, size_t len, uint32_t format, uint32_t rate, size_t samples_max,
                           float ** out, size_t * n) {
    ma_decoder_config config = ma_decoder_config_init(ma_format_f32, 1, rate);
    ma_decoder        decoder;
    // Else a damaged WAV would be searched for anything that looks like an MP3.
    config.encodingFormat = static_cast<ma_encoding_format>(format);
    if (ma_decoder_init_memory(bytes, len, &config, &decoder) != MA_SUCCESS) {
        return give("it is damaged");
    }
    float *      samples = nullptr;
    size_t       count   = 0;
    const char * failed  = nullptr;
    while (count <= samples_max) {
        auto * grown = static_cast<float *>(std::realloc(samples, (count + STEP) * sizeof(float)));
        if (grown == nullptr) {
            failed = "out of memory";
            break;
        }
        samples = grown;
        ma_uint64 read   = 0;
        ma_result result = ma_decoder_read_pcm_frames(&decoder, samples + count, STEP, &read);
        count += (size_t) read;
        if (result != MA_SUCCESS || read == 0) {
            break;
        }
    }
    ma_decoder_uninit(&decoder);
    if (failed != nullptr) {
        std::free(samples);
        return give(failed);
    }
    *out = samples;
    *n   = count;
    return nullptr;
}
