# SPDX-License-Identifier: Apache-2.0
# Libraries that others wrote, as targets PkgConfig::NAME; with COUPLET_STATIC each is its .a file.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

# cpl_dependency(NAME module-and-version archive)
function(cpl_dependency name module archive)
  pkg_check_modules(${name} REQUIRED IMPORTED_TARGET GLOBAL ${module})
  if(COUPLET_STATIC)
    find_library(${name}_ARCHIVE ${archive} REQUIRED HINTS ${${name}_LIBRARY_DIRS})
    set_target_properties(PkgConfig::${name} PROPERTIES INTERFACE_LINK_LIBRARIES
      "${${name}_ARCHIVE};Threads::Threads;${CMAKE_DL_LIBS};m")
  endif()
endfunction()

cpl_dependency(JANSSON jansson>=2.13 libjansson.a)
cpl_dependency(ZLIB zlib libz.a)
cpl_dependency(ZSTD libzstd libzstd.a)
cpl_dependency(UV libuv>=1.40 libuv_a.a)
# The limit on stream resets came with 1.57; Debian 12 has it in its 1.52.
cpl_dependency(NGHTTP2 libnghttp2>=1.52 libnghttp2.a)
cpl_dependency(PROTOBUF_C libprotobuf-c>=1.4 libprotobuf-c.a)
cpl_dependency(FYAML libfyaml>=0.7 libfyaml.a)

# llhttp: a system that has it as a library, or Debian 12's node-llhttp, which ships its C sources.
pkg_check_modules(LLHTTP_PACKAGE QUIET IMPORTED_TARGET GLOBAL libllhttp)
if(LLHTTP_PACKAGE_FOUND AND NOT COUPLET_STATIC)
  add_library(llhttp ALIAS PkgConfig::LLHTTP_PACKAGE)
else()
  find_path(LLHTTP_SOURCES llhttp.c PATHS /usr/share/llhttp REQUIRED)
  find_path(LLHTTP_INCLUDE llhttp.h PATHS /usr/share/include/llhttp REQUIRED)
  add_library(llhttp STATIC ${LLHTTP_SOURCES}/llhttp.c ${LLHTTP_SOURCES}/api.c ${LLHTTP_SOURCES}/http.c)
  target_include_directories(llhttp SYSTEM PUBLIC ${LLHTTP_INCLUDE})
  target_compile_options(llhttp PRIVATE -w) # not ours
endif()
