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
target_link_options(libcouplet_shared PRIVATE -Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/couplet.map
  $<$<NOT:$<BOOL:${CPL_INSTRUMENTED}>>:-Wl,--no-undefined>)
set_target_properties(libcouplet_shared PROPERTIES LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/couplet.map)

# src/backend/NAME/plugin_*.c makes plugins/couplet-NAME.so, which exports nothing but cpl_plugin.
set(CPL_PLUGIN_DIR ${CMAKE_INSTALL_FULL_LIBDIR}/couplet)
target_compile_definitions(cpl_backend PRIVATE COUPLET_PLUGIN_DIR="${CPL_PLUGIN_DIR}")
file(GLOB plugins CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/backend/*/plugin_*.c)
foreach(f IN LISTS plugins)
  get_filename_component(name ${f} DIRECTORY)
  get_filename_component(name ${name} NAME)
  add_library(couplet-${name} MODULE ${f})
  target_link_libraries(couplet-${name} PRIVATE cpl_backend)
  target_link_options(couplet-${name} PRIVATE -Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/plugin.map)
  set_target_properties(couplet-${name} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/plugins)
  install(TARGETS couplet-${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/couplet)
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
