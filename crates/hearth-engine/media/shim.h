// A C interface to llama.cpp's multimodal library (tools/mtmd), and to its decoders of
// pictures and sounds. Every function that returns `char *` returns NULL where it succeeds,
// and otherwise a message, which the caller frees with hearth_media_free_data. No exception
// leaves these functions.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct llama_model;
struct hearth_media;
struct hearth_media_chunks;

// What a projector can do.
struct hearth_media_facts {
    bool vision;
    bool audio;
    // Samples of sound per second.
    uint32_t sample_rate;
    // Floats of one token's embedding.
    uint32_t width;
    // The most tokens that are decoded together, since each attends to all of them; 0 where
    // pictures are decoded causally.
    uint32_t whole_tokens;
};

// One picture or sound of a prompt.
struct hearth_medium {
    bool is_sound;
    // Of a picture.
    uint32_t width;
    uint32_t height;
    // Pixels in RGB, or NULL: only the number of its tokens matters.
    const uint8_t * pixels;
    // Of a sound, as 32-bit floats.
    const float * samples;
    size_t n_samples;
};

// One part of a prompt.
struct hearth_media_chunk {
    bool is_text;
    bool is_sound;
    // Whether its tokens attend to each other without regard to their order.
    bool is_whole;
    // Of a text.
    const int32_t * tokens;
    uint32_t n_tokens;
    // Positions that it takes in its sequence.
    uint32_t n_positions;
    // Whether each token has several positions (hearth_media_positions).
    bool has_grid;
};

// Called between parts of a computation; false ends it, and its result is undefined.
typedef bool (*hearth_media_go_on)(void * data);

char * hearth_media_new(const char * path, const struct llama_model * model, const char * marker, int32_t threads,
                        hearth_media_go_on go_on, void * data, struct hearth_media ** out);
void   hearth_media_free(struct hearth_media * media);
void   hearth_media_about(const struct hearth_media * media, struct hearth_media_facts * out);
void   hearth_media_set_threads(struct hearth_media * media, int32_t threads);

// Splits a text with one marker for each medium.
char * hearth_media_layout(const struct hearth_media * media, const char * text, size_t len, bool add_special,
                           const struct hearth_medium * list, size_t n, struct hearth_media_chunks ** out);
void   hearth_media_chunks_free(struct hearth_media_chunks * chunks);
size_t hearth_media_chunks_len(const struct hearth_media_chunks * chunks);
void   hearth_media_chunk_at(const struct hearth_media * media, const struct hearth_media_chunks * chunks, size_t at,
                             struct hearth_media_chunk * out);
// The four positions of each token of a chunk that begins at `first`: all first ones, all
// second ones, and so on.
void   hearth_media_positions(const struct hearth_media_chunks * chunks, size_t at, int32_t first, int32_t * out);

// The embeddings of a chunk, valid until the next call.
char * hearth_media_encode(struct hearth_media * media, const struct hearth_media_chunks * chunks, size_t at,
                           const float ** out, size_t * n);

// Decodes a PNG, JPEG, BMP or GIF (its first frame) of the size that its header names.
char * hearth_picture_decode(const uint8_t * bytes, size_t len, uint32_t width, uint32_t height, uint8_t ** out);
// Decodes a WAV (1), FLAC (2) or MP3 (3) to one channel. What has more than `samples_max`
// samples is not decoded to its end; its number of samples is then greater.
char * hearth_sound_decode(const uint8_t * bytes, size_t len, uint32_t format, uint32_t rate, size_t samples_max,
                           float ** out, size_t * n);
void   hearth_media_free_data(void * data);

#ifdef __cplusplus
}
#endif
