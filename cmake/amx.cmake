# SPDX-License-Identifier: Apache-2.0
# The AMX kernels once more, on tiles in software (tests/amx/tiles.h), and what is tested with them: on any x86 with
# AVX-512, with BF16 and VBMI; tests/amx/test_*.c skip themselves elsewhere. bench_amx times the path by its parts.
if(NOT CPL_FAMILY STREQUAL x86)
  return()
endif()
set(sources ${CMAKE_SOURCE_DIR}/tests/amx/tiles.c)
foreach(part gemm rows attention table)
  configure_file(${CMAKE_SOURCE_DIR}/src/kernel/${part}_amx.c ${CMAKE_BINARY_DIR}/amx/${part}_model.c COPYONLY)
  list(APPEND sources ${CMAKE_BINARY_DIR}/amx/${part}_model.c)
endforeach()
add_library(cpl_amx_model STATIC ${sources})
target_compile_options(cpl_amx_model PRIVATE ${CPL_ISA_amxmodel})
target_compile_definitions(cpl_amx_model PRIVATE CPL_AMX_MODEL="amx/tiles.h")
target_include_directories(cpl_amx_model PRIVATE ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/src
  ${CMAKE_SOURCE_DIR}/include)

add_executable(bench_amx ${CMAKE_SOURCE_DIR}/tests/amx/bench_amx.c)
target_link_libraries(bench_amx PRIVATE cpl_engine)
target_include_directories(bench_amx PRIVATE ${CMAKE_SOURCE_DIR}/tests)

cpl_wanted(conform wanted)
if(wanted)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/amx/test_*.c)
  foreach(f IN LISTS files)
    cpl_test(${f} conform cpl_amx_model cpl_engine)
  endforeach()
endif()
