// The decoder of pictures: only the formats that are offered, with a bound on each
// allocation, since the compressed data of a small picture may expand without end.
#include "shim.h"

#include <cstdlib>
#include <cstring>
#include <string>

static thread_local size_t allocation_max = 0;

static void * bounded_malloc(size_t size) {
    return size > allocation_max ? nullptr : std::malloc(size);
}

static void * bounded_realloc(void * data, size_t size) {
    return size > allocation_max ? nullptr : std::realloc(data, size);
}

#define STBI_MALLOC(size)        bounded_malloc(size)
#define STBI_REALLOC(data, size) bounded_realloc(data, size)
#define STBI_FREE(data)          std::free(data)
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_ONLY_GIF
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 16384
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#include "stb/stb_image.h"

static char * give(const std::string & text) {
    char * out = static_cast<char *>(std::malloc(text.size() + 1));
    if (out != nullptr) {
        std::memcpy(out, text.c_str(), text.size() + 1);
    }
    return out;
}

char * hearth_picture_decode(const uint8_t * bytes, size_t len, uint32_t width, uint32_t height, uint8_t ** out) {
    // Eight bytes for each pixel of a PNG with 16-bit channels, and as much again.
    allocation_max = (size_t) width * height * 16 + (1 << 20);
    int       nx = 0, ny = 0, channels = 0;
    uint8_t * pixels = stbi_load_from_memory(bytes, (int) len, &nx, &ny, &channels, 3);
    if (pixels == nullptr) {
        const char * why = stbi_failure_reason();
        return give(why == nullptr ? "it is damaged" : std::string("it is damaged (") + why + ")");
    }
    if ((uint32_t) nx != width || (uint32_t) ny != height) {
        std::free(pixels);
        return give("its header names another size than its data");
    }
    *out = pixels;
    return nullptr;
}
