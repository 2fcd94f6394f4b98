# SPDX-License-Identifier: Apache-2.0
# libcouplet: what include/couplet.h promises, static and shared, from the floors base to lib; the plug-ins; and what
# `cmake --install` puts where.
include(GNUInstallDirs)
set(CPL_INSTRUMENTED OFF)
if(COUPLET_SANITIZE OR COUPLET_FUZZ)
  set(CPL_INSTRUMENTED ON)
endif()
set(CPL_LIBRARY_FLOORS base text model kernel backend engine lib)
foreach(f IN LISTS CPL_LIBRARY_FLOORS)
  list(APPEND CPL_LIBRARY_OBJECTS $<TARGET_OBJECTS:cpl_${f}>)
endforeach()

file(WRITE ${CMAKE_BINARY_DIR}/couplet_empty.c "typedef int cpl_empty;\n") # the objects are the source
foreach(kind STATIC SHARED)
  string(TOLOWER libcouplet_${kind} target)
  add_library(${target} ${kind} ${CMAKE_BINARY_DIR}/couplet_empty.c ${CPL_LIBRARY_OBJECTS})
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR}/include)
  set_target_properties(${target} PROPERTIES OUTPUT_NAME couplet VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR})
endforeach()
target_link_libraries(libcouplet_shared PRIVATE PkgConfig::JANSSON PkgConfig::ZLIB PkgConfig::ZSTD Threads::Threads m ${CMAKE_DL_LIBS})
target_link_libraries(libcouplet_static PUBLIC PkgConfig::JANSSON PkgConfig::ZLIB PkgConfig::ZSTD Threads::Threads m ${CMAKE_DL_LIBS})
# Only what couplet.h marks CPL_API leaves the library, whatever a static dependency brings in.
if(NOT APPLE) # whose linker has no such scripts; there hidden visibility does it alone
  target_link_options(libcouplet_shared PRIVATE -Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/couplet.map
    $<$<NOT:$<BOOL:${CPL_INSTRUMENTED}>>:-Wl,--no-undefined>)
  set_target_properties(libcouplet_shared PROPERTIES LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/couplet.map)
endif()

# cpl_plugin(NAME SOURCES files... [LINKS libraries...]) makes plugins/couplet-NAME.so, which exports nothing but
# cpl_plugin. Files may be C or, after enable_language(CXX) where the runtime has no C interface, C++.
set(CPL_PLUGIN_DIR ${CMAKE_INSTALL_FULL_LIBDIR}/couplet)
target_compile_definitions(cpl_backend PRIVATE COUPLET_PLUGIN_DIR="${CPL_PLUGIN_DIR}")
function(cpl_plugin name)
  cmake_parse_arguments(P "" "" "SOURCES;LINKS" ${ARGN})
  add_library(couplet-${name} MODULE ${P_SOURCES})
  target_link_libraries(couplet-${name} PRIVATE cpl_backend ${P_LINKS})
  if(NOT APPLE)
    target_link_options(couplet-${name} PRIVATE -Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/plugin.map)
  endif()
  set_target_properties(couplet-${name} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/plugins)
  install(TARGETS couplet-${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/couplet)
endfunction()

# A folder with a plugin_NAME.c is a plug-in that needs nothing but a C compiler to build: its runtime, if any, is opened
# when it is used. Whatever needs more has a cmake/NAME.cmake of its own.
file(GLOB plugins CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/backend/*/plugin_*.c)
foreach(f IN LISTS plugins)
  get_filename_component(dir ${f} DIRECTORY)
  get_filename_component(name ${dir} NAME)
  if(name IN_LIST CPL_FOREIGN_BACKENDS)
    file(GLOB f CONFIGURE_DEPENDS ${dir}/*.c)
  endif()
  cpl_plugin(${name} SOURCES ${f})
endforeach()

configure_file(cmake/couplet.pc.in ${CMAKE_BINARY_DIR}/couplet.pc @ONLY)
install(TARGETS couplet RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS libcouplet_static libcouplet_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/couplet.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_BINARY_DIR}/couplet.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# Man pages and completions come out of the program itself.
add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/share/man/man1/couplet.1
  COMMAND ${CMAKE_SOURCE_DIR}/tools/make_help.sh $<TARGET_FILE:couplet> ${CMAKE_BINARY_DIR}/share
  DEPENDS couplet ${CMAKE_SOURCE_DIR}/tools/make_help.sh COMMENT "Man pages and completions" VERBATIM)
add_custom_target(help_pages ALL DEPENDS ${CMAKE_BINARY_DIR}/share/man/man1/couplet.1)
install(DIRECTORY ${CMAKE_BINARY_DIR}/share/ DESTINATION ${CMAKE_INSTALL_DATAROOTDIR})
