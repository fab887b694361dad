# ggml compiles its CPU kernels once for each kind of processor: 14 variants for x86-64,
# 8 for arm64, each half a minute of CPU time. A build for the machine that it runs on
# compiles only the variant that the engine selects there. The target `hearth-kernels`
# compiles those of the package in the same build tree, with ggml's own flags
# (packaging/build-deb.sh). A cross build is for a package: it compiles them all.

# The variant with AMX is excluded: its tile configuration is set once per thread, and
# in virtual machines whose host loses that state it crashes with an illegal instruction
# (observed: SIGILL at `tilezero` on a Firecracker guest). These server processors use
# the next best variant.
set(HEARTH_LEFT_OUT ggml-cpu-sapphirerapids)

# ggml makes the library `ggml` depend on each variant, and installs each; neither can be
# undone. So both are omitted here for the variants, and done for those that are chosen.
# CMake keeps a command that is redefined under its name with an underscore.
function(add_dependencies target)
  if(target STREQUAL "ggml" AND "${ARGN}" MATCHES "^ggml-cpu-")
    set_property(GLOBAL APPEND PROPERTY HEARTH_VARIANTS ${ARGN})
  else()
    _add_dependencies(${ARGV})
  endif()
endfunction()

function(install)
  if(NOT "${ARGV}" MATCHES "^TARGETS;ggml-cpu-")
    _install(${ARGV})
  endif()
endfunction()

# What ggml asks for (cpu-feats.cpp), in the order in which it scores it: a later one
# counts more than all before it. Each with the names in /proc/cpuinfo.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(HEARTH_FEATURES "DOTPROD asimddp" "FP16_VECTOR_ARITHMETIC fphp asimdhp" "SVE sve"
    "MATMUL_INT8 i8mm" "SVE2 sve2" "SME sme")
else()
  set(HEARTH_FEATURES "FMA fma" "F16C f16c" "SSE42 sse4_2" "BMI2 bmi2" "AVX avx"
    "AVX2 avx2" "AVX_VNNI avx_vnni"
    "AVX512 avx512f avx512cd avx512vl avx512dq avx512bw" "AVX512_VBMI avx512vbmi"
    "AVX512_BF16 avx512_bf16" "AVX512_VNNI avx512_vnni")
endif()

# Sets OUT to the score of a variant on this processor, or to -1 where it does not run.
function(hearth_score variant processor out)
  get_target_property(needed ${variant}-feats COMPILE_DEFINITIONS)
  list(FILTER needed EXCLUDE REGEX "^GGML_BACKEND_")
  set(score 0)
  set(weight 1)
  foreach(feature IN LISTS HEARTH_FEATURES)
    separate_arguments(names UNIX_COMMAND "${feature}")
    list(POP_FRONT names name)
    list(FIND needed GGML_${name} at)
    if(at EQUAL -1)
      list(FIND needed GGML_USE_${name} at)
    endif()
    if(NOT at EQUAL -1)
      list(REMOVE_AT needed ${at})
      math(EXPR score "${score} + ${weight}")
      foreach(flag IN LISTS names)
        if(NOT processor MATCHES " ${flag} ")
          set(score -1)
          break()
        endif()
      endforeach()
      if(score EQUAL -1)
        break()
      endif()
    endif()
    math(EXPR weight "${weight} * 2")
  endforeach()
  # Something that is not in the list above.
  if(needed AND NOT score EQUAL -1)
    set(score -1)
  endif()
  set(${out} ${score} PARENT_SCOPE)
endfunction()

function(hearth_choose_variants)
  get_property(variants GLOBAL PROPERTY HEARTH_VARIANTS)
  set(shipped ${variants})
  list(REMOVE_ITEM shipped ${HEARTH_LEFT_OUT})
  set(chosen ${shipped})
  if(NOT CMAKE_CROSSCOMPILING AND EXISTS /proc/cpuinfo)
    file(STRINGS /proc/cpuinfo processor REGEX "^(flags|Features)[ \t]*:" LIMIT_COUNT 1)
    set(best -1)
    foreach(variant IN LISTS shipped)
      hearth_score(${variant} "${processor} " score)
      if(score GREATER best)
        set(best ${score})
        set(chosen ${variant})
      endif()
    endforeach()
  endif()
  message(STATUS "CPU variants: ${chosen}")
  foreach(variant IN LISTS variants)
    # As installed, without the path of the build tree: packages are made of these files.
    set_target_properties(${variant} PROPERTIES BUILD_WITH_INSTALL_RPATH ON)
    if(variant IN_LIST chosen)
      _add_dependencies(ggml ${variant})
      _install(TARGETS ${variant} LIBRARY DESTINATION ${GGML_BACKEND_DIR})
    else()
      set_target_properties(${variant} ${variant}-feats PROPERTIES EXCLUDE_FROM_ALL ON)
    endif()
  endforeach()
  add_custom_target(hearth-kernels)
  _add_dependencies(hearth-kernels ${shipped})
endfunction()
cmake_language(DEFER CALL hearth_choose_variants)
