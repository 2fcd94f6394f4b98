# SPDX-License-Identifier: Apache-2.0
# plugins/couplet-mlx.so (docs/RUNTIMES.md), with -DCOUPLET_MLX=ON: built against the headers of the pip wheel (mlx-cpu on
# Linux, mlx on macOS), found in .venv (tools/setup.sh mlx) or named: -DCOUPLET_MLX_PACKAGE=.../site-packages/mlx.
option(COUPLET_MLX "Build the mlx backend, a plug-in (needs MLX; tools/setup.sh mlx)" OFF)
if(NOT COUPLET_MLX)
  return()
endif()
enable_language(CXX)

file(GLOB mlx_found ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/mlx)
set(mlx_first "")
if(mlx_found)
  list(GET mlx_found 0 mlx_first)
endif()
set(COUPLET_MLX_PACKAGE "${mlx_first}" CACHE PATH "folder of the mlx package: include/ and lib/ are in it")
if(NOT EXISTS ${COUPLET_MLX_PACKAGE}/include/mlx/mlx.h)
  message(FATAL_ERROR "no MLX in '${COUPLET_MLX_PACKAGE}': run tools/setup.sh mlx, or give -DCOUPLET_MLX_PACKAGE=FOLDER")
endif()

add_library(libmlx INTERFACE)
target_include_directories(libmlx SYSTEM INTERFACE ${COUPLET_MLX_PACKAGE}/include)
target_link_libraries(libmlx INTERFACE ${COUPLET_MLX_PACKAGE}/lib/libmlx${CMAKE_SHARED_LIBRARY_SUFFIX})
cpl_plugin(mlx SOURCES ${CMAKE_SOURCE_DIR}/src/backend/mlx/mlx.cpp LINKS libmlx)
target_compile_features(couplet-mlx PRIVATE cxx_std_20)
if(NOT APPLE)
  target_link_options(couplet-mlx PRIVATE -Wl,-z,nodelete -Wl,--no-undefined -Wl,--allow-shlib-undefined)
endif()
set_target_properties(couplet-mlx PROPERTIES CXX_VISIBILITY_PRESET hidden CXX_EXTENSIONS OFF
  BUILD_RPATH ${COUPLET_MLX_PACKAGE}/lib INSTALL_RPATH ${COUPLET_MLX_PACKAGE}/lib)
if(TEST ${CPL_TEST_PREFIX}conform_conform) # on Linux MLX's 16-bit and quantised products are plain loops
  set_tests_properties(${CPL_TEST_PREFIX}conform_conform PROPERTIES TIMEOUT 3600)
endif()
