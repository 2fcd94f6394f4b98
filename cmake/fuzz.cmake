# SPDX-License-Identifier: Apache-2.0
# `make fuzz`: tests/fuzz/fuzz_*.c with libFuzzer, the whole program instrumented. Needs clang.
if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
  message(FATAL_ERROR "COUPLET_FUZZ needs clang: CC=clang cmake ...")
endif()
file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_*.c)
foreach(f IN LISTS files)
  get_filename_component(stem ${f} NAME_WE)
  add_executable(${stem} ${f})
  target_link_libraries(${stem} PRIVATE cpl_cli)
  target_include_directories(${stem} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_options(${stem} PRIVATE -fsanitize=fuzzer)
endforeach()
