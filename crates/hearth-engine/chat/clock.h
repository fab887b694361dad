// Included before everything else in the chat layer: templates that read the time
// (`strftime_now`) get the request's time, so that a prompt is the same when its answer
// resumes after a crash.
#pragma once

#include <chrono>
#include <ctime>

// The request's time in this thread.
std::time_t hearth_chat_time();

namespace std {
inline time_t hearth_request_time(time_t * out) {
    const time_t now = ::hearth_chat_time();
    if (out != nullptr) {
        *out = now;
    }
    return now;
}
} // namespace std

// jinja/runtime.h calls std::time(nullptr).
#define time hearth_request_time
