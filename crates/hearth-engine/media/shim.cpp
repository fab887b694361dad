// The multimodal library in one translation unit with the interface to it: its context has
// no function that changes the number of threads, nor one that tells the size of a picture
// that is decoded as a whole.
#include "mtmd.cpp"

#include "shim.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

// Between so many operations of a graph the caller is asked whether to go on; each such
// point costs a synchronization of the threads.
static const int OPS_BETWEEN = 24;
// A picture of this size has as many tokens as any, where their number is not bounded by a
// number of pixels.
static const uint32_t PROBE = 1024;

struct hearth_media {
    mtmd_context *     context = nullptr;
    hearth_media_go_on go_on   = nullptr;
    void *             data    = nullptr;
    int                ops     = 0;
    bool               stopped = false;
    uint32_t           width   = 0;
    uint32_t           whole   = 0;

    ~hearth_media() { mtmd_free(context); }
};

struct hearth_media_chunks {
    mtmd_input_chunks list;
};

static char * give(const char * text) noexcept {
    const size_t len = std::strlen(text) + 1;
    char *       out = static_cast<char *>(std::malloc(len));
    if (out != nullptr) {
        std::memcpy(out, text, len);
    }
    return out;
}

// The message of a failure has to be there even without memory for it.
template <typename Run> static char * guarded(Run run) noexcept {
    std::string error;
    try {
        const char * failed = run();
        if (failed == nullptr) {
            return nullptr;
        }
        error = failed;
    } catch (const std::bad_alloc &) {
        return give("out of memory");
    } catch (const std::exception & e) {
        return give(e.what());
    } catch (...) {
        return give("unknown exception");
    }
    return give(error.c_str());
}

static bool between(ggml_tensor *, bool ask, void * user_data) {
    auto * media = static_cast<hearth_media *>(user_data);
    if (ask) {
        return media->stopped || ++media->ops % OPS_BETWEEN == 0;
    }
    media->stopped = media->stopped || !media->go_on(media->data);
    return !media->stopped;
}

static mtmd_input_chunks chunks_of(const mtmd_context * context, const mtmd_input_text & text,
                                   const std::vector<const mtmd_bitmap *> & bitmaps) {
    mtmd_input_chunks list;
    if (mtmd_tokenize(context, &list, &text, bitmaps.data(), bitmaps.size()) != 0) {
        throw std::runtime_error("it cannot be prepared for the model");
    }
    return list;
}

// The most tokens of a picture that is decoded as a whole.
static uint32_t whole_tokens(const mtmd_context * context) {
    if (context->ctx_v == nullptr || !mtmd_decode_use_non_causal(context, nullptr)) {
        return 0;
    }
    const int           bounded = clip_get_image_max_tokens(context->ctx_v);
    mtmd::bitmap        picture(PROBE, PROBE, nullptr);
    const std::string & marker = context->media_marker;
    const auto          list   = chunks_of(context, { marker.data(), marker.size(), false, true }, { picture.ptr.get() });
    size_t              most   = std::max(bounded, 0);
    for (const auto & chunk : list.entries) {
        if (chunk.type == MTMD_INPUT_CHUNK_TYPE_IMAGE) {
            most = std::max(most, mtmd_input_chunk_get_n_tokens(&chunk));
        }
    }
    return (uint32_t) most;
}

char * hearth_media_new(const char * path, const llama_model * model, const char * marker, int32_t threads,
                        hearth_media_go_on go_on, void * data, hearth_media ** out) {
    return guarded([&]() -> const char * {
        auto media   = std::make_unique<hearth_media>();
        media->go_on = go_on;
        media->data  = data;
        auto params  = mtmd_context_params_default();
        params.use_gpu           = false;
        params.print_timings     = false;
        params.n_threads         = threads;
        params.media_marker      = marker;
        // It would compute a whole picture when a model is loaded.
        params.warmup            = false;
        params.cb_eval           = between;
        params.cb_eval_user_data = media.get();
        media->context           = mtmd_init_from_file(path, model, params);
        if (media->context == nullptr) {
            return "it does not fit the model, or is damaged";
        }
        media->width = model == nullptr ? 0 : (uint32_t) llama_model_n_embd_inp(model);
        media->whole = model == nullptr ? 0 : whole_tokens(media->context);
        *out         = media.release();
        return nullptr;
    });
}

void hearth_media_free(hearth_media * media) {
    delete media;
}

void hearth_media_about(const hearth_media * media, hearth_media_facts * out) {
    const int rate   = mtmd_get_audio_sample_rate(media->context);
    out->vision       = mtmd_support_vision(media->context);
    out->audio        = mtmd_support_audio(media->context);
    out->sample_rate  = rate > 0 ? (uint32_t) rate : 0;
    out->width        = media->width;
    out->whole_tokens = media->whole;
}

void hearth_media_set_threads(hearth_media * media, int32_t threads) {
    media->context->n_threads = threads;
}

char * hearth_media_layout(const hearth_media * media, const char * text, size_t len, bool add_special,
                           const hearth_medium * list, size_t n, hearth_media_chunks ** out) {
    return guarded([&]() -> const char * {
        std::vector<mtmd::bitmap>        owned;
        std::vector<const mtmd_bitmap *> bitmaps;
        for (size_t i = 0; i < n; i++) {
            const hearth_medium & medium = list[i];
            owned.emplace_back(medium.is_sound ? mtmd_bitmap_init_from_audio(medium.n_samples, medium.samples)
                                               : mtmd_bitmap_init(medium.width, medium.height, medium.pixels));
            bitmaps.push_back(owned.back().ptr.get());
        }
        auto chunks  = std::make_unique<hearth_media_chunks>();
        chunks->list = chunks_of(media->context, { text, len, add_special, true }, bitmaps);
        *out         = chunks.release();
        return nullptr;
    });
}

void hearth_media_chunks_free(hearth_media_chunks * chunks) {
    delete chunks;
}

size_t hearth_media_chunks_len(const hearth_media_chunks * chunks) {
    return chunks->list.entries.size();
}

void hearth_media_chunk_at(const hearth_media * media, const hearth_media_chunks * chunks, size_t at,
                           hearth_media_chunk * out) {
    const mtmd_input_chunk & chunk = chunks->list.entries[at];
    out->is_text     = chunk.type == MTMD_INPUT_CHUNK_TYPE_TEXT;
    out->is_sound    = chunk.type == MTMD_INPUT_CHUNK_TYPE_AUDIO;
    out->is_whole    = !out->is_text && mtmd_decode_use_non_causal(media->context, &chunk);
    out->tokens      = chunk.tokens_text.data();
    out->n_tokens    = (uint32_t) mtmd_input_chunk_get_n_tokens(&chunk);
    out->n_positions = (uint32_t) mtmd_input_chunk_get_n_pos(&chunk);
    out->has_grid    = !out->is_text && mtmd_decode_use_mrope(media->context);
}

void hearth_media_positions(const hearth_media_chunks * chunks, size_t at, int32_t first, int32_t * out) {
    const mtmd_input_chunk & chunk = chunks->list.entries[at];
    const size_t             n     = mtmd_input_chunk_get_n_tokens(&chunk);
    for (size_t i = 0; i < n; i++) {
        mtmd_decoder_pos pos;
        if (chunk.tokens_image) {
            pos = mtmd_image_tokens_get_decoder_pos(chunk.tokens_image.get(), first, i);
        } else {
            pos.t = pos.x = pos.y = pos.z = (uint32_t) first + (uint32_t) i;
        }
        out[i]         = (int32_t) pos.t;
        out[i + n]     = (int32_t) pos.y;
        out[i + 2 * n] = (int32_t) pos.x;
        out[i + 3 * n] = (int32_t) pos.z;
    }
}

char * hearth_media_encode(hearth_media * media, const hearth_media_chunks * chunks, size_t at, const float ** out,
                           size_t * n) {
    return guarded([&]() -> const char * {
        const mtmd_input_chunk & chunk = chunks->list.entries[at];
        media->stopped = false;
        media->ops     = 0;
        if (mtmd_encode_chunk(media->context, &chunk) != 0) {
            return "its encoding failed";
        }
        *out = mtmd_get_output_embd(media->context);
        *n   = media->context->out_embd.size();
        return nullptr;
    });
}

void hearth_media_free_data(void * data) {
    std::free(data);
}
