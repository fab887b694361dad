# CMake reads this after every project() (CMAKE_PROJECT_INCLUDE, which the build script of
# llama-cpp-sys-2 passes on).
if(PROJECT_NAME STREQUAL "llama.cpp")
  # libllama-common: command lines, downloads, HTTP, OpenSSL. The crate llama-cpp-2 turns it on
  # and uses none of it; the engine compiles the chat layer by itself.
  set(LLAMA_BUILD_COMMON OFF)
elseif(PROJECT_NAME STREQUAL "ggml")
  include(${CMAKE_CURRENT_LIST_DIR}/kernels.cmake)
  include(${CMAKE_CURRENT_LIST_DIR}/gcc-armv9.cmake)
endif()
