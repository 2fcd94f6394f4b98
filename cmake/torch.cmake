# SPDX-License-Identifier: Apache-2.0
# plugins/couplet-{pytorch,mps,compiled}.so (docs/RUNTIMES.md), with -DCOUPLET_PYTORCH=ON: libtorch, built
# against the headers of the pip wheel, linked with libtorch_cpu and c10 and nothing else of it. The wheel is found in
# .venv (tools/setup.sh pytorch), or named: -DCOUPLET_TORCH=.../site-packages/torch.
option(COUPLET_PYTORCH "Build the pytorch and mps backends, plug-ins (needs libtorch; tools/setup.sh pytorch)" OFF)
if(NOT COUPLET_PYTORCH)
  return()
endif()
enable_language(CXX)

file(GLOB torch_found ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
set(torch_first "")
if(torch_found)
  list(GET torch_found 0 torch_first)
endif()
set(COUPLET_TORCH "${torch_first}" CACHE PATH "folder of the torch package: include/ and lib/ are in it")
if(NOT EXISTS ${COUPLET_TORCH}/include/ATen/ATen.h)
  message(FATAL_ERROR "no libtorch in '${COUPLET_TORCH}': run tools/setup.sh pytorch, or give -DCOUPLET_TORCH=FOLDER")
endif()

add_library(libtorch INTERFACE)
target_include_directories(libtorch SYSTEM INTERFACE ${COUPLET_TORCH}/include
  ${COUPLET_TORCH}/include/torch/csrc/api/include)
target_link_libraries(libtorch INTERFACE ${COUPLET_TORCH}/lib/libtorch_cpu${CMAKE_SHARED_LIBRARY_SUFFIX}
  ${COUPLET_TORCH}/lib/libc10${CMAKE_SHARED_LIBRARY_SUFFIX})

# cpl_torch_plugin(NAME file [definition...])
function(cpl_torch_plugin name file)
  cpl_plugin(${name} SOURCES ${file} LINKS libtorch ${CMAKE_DL_LIBS})
  target_compile_definitions(couplet-${name} PRIVATE ${ARGN})
  target_compile_features(couplet-${name} PRIVATE cxx_std_20)
  if(NOT APPLE)
    target_link_options(couplet-${name} PRIVATE -Wl,-z,nodelete -Wl,--no-undefined -Wl,--allow-shlib-undefined)
  endif()
  set_target_properties(couplet-${name} PROPERTIES CXX_VISIBILITY_PRESET hidden CXX_EXTENSIONS OFF
    BUILD_RPATH ${COUPLET_TORCH}/lib INSTALL_RPATH ${COUPLET_TORCH}/lib)
endfunction()

cpl_torch_plugin(pytorch ${CMAKE_SOURCE_DIR}/src/backend/pytorch/pytorch.cpp)
cpl_torch_plugin(mps ${CMAKE_SOURCE_DIR}/src/backend/pytorch/pytorch.cpp CPL_TORCH_BACKEND="mps")
cpl_torch_plugin(compiled ${CMAKE_SOURCE_DIR}/src/backend/compiled/compiled.cpp)
