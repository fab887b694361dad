# CMake reads this after every project() (CMAKE_PROJECT_INCLUDE, which the build
# script of llama-cpp-sys-2 passes on).
#
# GCC before 14 (Debian 12 has 12.2) does not know `-march=armv9.2-a` nor `+sme`,
# which ggml asks for in its two newest ARM variants. Those two are lowered to
# `armv9-a`; the others are left as they are.
if(PROJECT_NAME STREQUAL "ggml" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU"
   AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  function(hearthd_lower_armv9_2)
    foreach(variant armv9.2_1 armv9.2_2)
      foreach(target ggml-cpu-${variant} ggml-cpu-${variant}-feats)
        if(NOT TARGET ${target})
          continue()
        endif()
        get_target_property(options ${target} COMPILE_OPTIONS)
        if(options)
          string(REPLACE "armv9.2-a" "armv9-a" options "${options}")
          string(REPLACE "+sme" "" options "${options}")
          set_target_properties(${target} PROPERTIES COMPILE_OPTIONS "${options}")
        endif()
      endforeach()
    endforeach()
  endfunction()
  cmake_language(DEFER CALL hearthd_lower_armv9_2)
endif()
