# SPDX-License-Identifier: Apache-2.0
# plugins/couplet-cuda.so, its tests and its bench (docs/CUDA.md), with -DCOUPLET_CUDA=ON. nvcc is called directly, not as
# a CMake language: so the one that pip installs will do, on a machine without a GPU. The CUDA runtime is linked in.
option(COUPLET_CUDA "Build the cuda backend, a plug-in (needs nvcc 13; tools/setup.sh cuda)" OFF)
set(COUPLET_CUDA_ARCHITECTURES "80;89;90a" CACHE STRING "GPUs the plug-in has machine code for; PTX of 9.0 for later ones")
if(NOT COUPLET_CUDA)
  return()
endif()

file(GLOB pip_cuda ${CMAKE_SOURCE_DIR}/.cuda-venv/lib/python3*/site-packages/nvidia/cu13)
find_program(COUPLET_NVCC nvcc HINTS ${pip_cuda}/bin PATHS /usr/local/cuda/bin REQUIRED)
get_filename_component(cuda_root ${COUPLET_NVCC} REALPATH)
get_filename_component(cuda_root ${cuda_root} DIRECTORY)
get_filename_component(cuda_root ${cuda_root} DIRECTORY)
find_library(COUPLET_CUDART cudart_static REQUIRED HINTS ${cuda_root}/lib ${cuda_root}/lib64
  ${cuda_root}/targets/x86_64-linux/lib)
find_program(COUPLET_CUDA_HOST_CXX NAMES g++ c++ clang++ REQUIRED)

set(nvcc_flags -ccbin ${COUPLET_CUDA_HOST_CXX} -std=c++20 -O3 -Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra
  -I${CMAKE_SOURCE_DIR}/include -I${CMAKE_SOURCE_DIR}/src
  -I${CMAKE_SOURCE_DIR}/tests)
foreach(arch IN LISTS COUPLET_CUDA_ARCHITECTURES)
  list(APPEND nvcc_flags -gencode=arch=compute_${arch},code=sm_${arch})
endforeach()
list(APPEND nvcc_flags -gencode=arch=compute_90,code=compute_90)
if(COUPLET_WERROR)
  list(APPEND nvcc_flags -Werror=all-warnings)
endif()

file(GLOB cuda_headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/backend/cuda/*.cuh)
# cpl_nvcc(FILE objects): adds the object of FILE to the list.
function(cpl_nvcc file objects)
  get_filename_component(name ${file} NAME_WE)
  set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
  add_custom_command(OUTPUT ${object} COMMAND ${COUPLET_NVCC} ${nvcc_flags} -c ${file} -o ${object}
    DEPENDS ${file} ${cuda_headers} ${CMAKE_SOURCE_DIR}/src/backend/backend.h ${CMAKE_SOURCE_DIR}/src/model/model.h
    COMMENT "nvcc ${name}" VERBATIM)
  set(${objects} ${${objects}} ${object} PARENT_SCOPE)
endfunction()
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/cuda)
file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/backend/cuda/*.cu)
set(cuda_objects "")
foreach(f IN LISTS cuda_sources)
  cpl_nvcc(${f} cuda_objects)
endforeach()
set_source_files_properties(${cuda_objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)

file(WRITE ${CMAKE_BINARY_DIR}/cuda/empty.c "typedef int cpl_empty;\n") # the objects are the source
add_library(couplet-cuda MODULE ${CMAKE_BINARY_DIR}/cuda/empty.c ${cuda_objects})
set(cuda_libraries ${COUPLET_CUDART} -l:libstdc++.a Threads::Threads ${CMAKE_DL_LIBS} rt m)
target_link_libraries(couplet-cuda PRIVATE cpl_backend ${cuda_libraries})
target_link_options(couplet-cuda PRIVATE -Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/plugin.map -Wl,--no-undefined)
set_target_properties(couplet-cuda PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/plugins)
install(TARGETS couplet-cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/couplet)

if(COUPLET_TESTS)
  cpl_test(${CMAKE_SOURCE_DIR}/tests/cuda/test_cuda.c cuda cpl_engine)
  set(bench_objects "")
  cpl_nvcc(${CMAKE_SOURCE_DIR}/tests/cuda/bench_cuda.cu bench_objects)
  set_source_files_properties(${bench_objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  add_executable(bench_cuda ${CMAKE_BINARY_DIR}/cuda/empty.c ${cuda_objects} ${bench_objects})
  target_link_libraries(bench_cuda PRIVATE cpl_backend ${cuda_libraries})
endif()
