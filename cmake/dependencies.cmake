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
cpl_dependency(NGHTTP2 libnghttp2>=1.43 libnghttp2.a)
cpl_dependency(PROTOBUF_C libprotobuf-c>=1.4 libprotobuf-c.a)
cpl_dependency(FYAML libfyaml>=0.7 libfyaml.a)
