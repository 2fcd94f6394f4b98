# SPDX-License-Identifier: Apache-2.0
# kerncheck (tests/kernel/kerncheck/): one ctest entry an ISA of this processor; those the machine lacks are skipped.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/kernel/kerncheck/*.c)
add_executable(kerncheck ${sources})
target_link_libraries(kerncheck PRIVATE cpl_kernel)
foreach(isa ref avx2 avxvnni avx512 amx)
  cpl_register(kerncheck_${isa} kernel kerncheck --isa ${isa})
endforeach()
cpl_register(kerncheck_self_test kernel kerncheck --self-test)
