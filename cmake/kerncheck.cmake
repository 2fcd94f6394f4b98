# SPDX-License-Identifier: Apache-2.0
# kerncheck (tests/kernel/kerncheck/): one ctest entry an ISA of this processor; those the machine lacks are skipped.
#
# With COUPLET_KERNCHECK_ONLY nothing else is built: the program then needs no library but C's and is linked statically,
# so that it can be made for another processor (a toolchain file beside this one) and run under its emulator, once for
# each model of CPU that adds something.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/kernel/kerncheck/*.c)
add_executable(kerncheck ${sources})
set(CPL_ISA_NAMES_x86 avx2 avxvnni avx512 amx)
set(CPL_ISA_NAMES_arm neon neon-dotprod neon-i8mm)

if(NOT COUPLET_KERNCHECK_ONLY)
  target_link_libraries(kerncheck PRIVATE cpl_kernel)
  foreach(isa IN ITEMS ref LISTS CPL_ISA_NAMES_${CPL_FAMILY})
    cpl_register(kerncheck_${isa} kernel kerncheck --isa ${isa})
  endforeach()
  cpl_register(kerncheck_self_test kernel kerncheck --self-test)
  return()
endif()

file(GLOB kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernel/*.c)
cpl_isa_files(kernels)
target_sources(kerncheck PRIVATE ${kernels} ${CMAKE_SOURCE_DIR}/src/base/arena.c ${CMAKE_SOURCE_DIR}/src/base/clock.c
  ${CMAKE_SOURCE_DIR}/src/base/error.c ${CMAKE_SOURCE_DIR}/src/base/system_linux.c)
target_include_directories(kerncheck PRIVATE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
target_link_options(kerncheck PRIVATE -static)
target_link_libraries(kerncheck PRIVATE m)

# The rest of the library compiles for that processor too: against this machine's headers of other people's libraries,
# which say the same everywhere, but after that processor's own C library's.
if(CMAKE_CROSSCOMPILING)
  foreach(floor base text model backend engine lib)
    file(GLOB_RECURSE files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${floor}/*.c)
    cpl_isa_files(files)
    add_library(compiles_${floor} OBJECT ${files})
    target_include_directories(compiles_${floor} PRIVATE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
    target_compile_definitions(compiles_${floor} PRIVATE COUPLET_PLUGIN_DIR="plugins")
    target_compile_options(compiles_${floor} PRIVATE -O0 -g0 "SHELL:-idirafter /usr/include"
      "SHELL:-idirafter /usr/include/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu")
  endforeach()
endif()

# cpl_emulated(MODEL arguments...): here an ISA that the emulated CPU turns out to lack is a failure.
function(cpl_emulated model)
  string(REPLACE ";" "_" name "kerncheck_${model};${ARGN}")
  string(REGEX REPLACE "_--" "_" name ${name})
  add_test(NAME ${name} COMMAND ${CMAKE_CROSSCOMPILING_EMULATOR} -cpu ${model} $<TARGET_FILE:kerncheck> --rounds 30
    ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS kernel TIMEOUT 300)
endfunction()
if(CPL_FAMILY STREQUAL arm)
  cpl_emulated(cortex-a53 --isa ref)
  cpl_emulated(cortex-a53 --isa neon)
  cpl_emulated(neoverse-n1 --isa neon-dotprod)
  cpl_emulated(max --isa neon-i8mm)
  cpl_emulated(max --isa neon-i8mm --self-test)
  # Nothing more than the CPU has is found in it.
  cpl_emulated(cortex-a72 --kernel i8)
  set_tests_properties(kerncheck_cortex-a72_kernel_i8 PROPERTIES FAIL_REGULAR_EXPRESSION "dotprod|i8mm")
endif()
