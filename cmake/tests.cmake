# SPDX-License-Identifier: Apache-2.0
# One executable a test file, one ctest entry an executable, run from the source tree; 77 means skipped. Each entry
# carries its folder's name as label:
#   unit/FLOOR/  links that floor          golden/ conform/ sim/ fault/  link what they exercise
#   kernel/      kerncheck.cmake
#   plugins/     links one foreign plug-in's own files
#   fuzz/        corpora replayed          e2e/  a real server, stock clients     lint  checks of the sources
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
set(COUPLET_TEST_LABELS "" CACHE STRING "Only tests with these labels (a list); empty: all")

# Sanitizer builds name their tests after the sanitizer, so that one ctest run can hold several builds.
set(CPL_TEST_PREFIX "")
if(COUPLET_SANITIZE MATCHES "address")
  set(CPL_TEST_PREFIX "asan.")
elseif(COUPLET_SANITIZE)
  set(CPL_TEST_PREFIX "${COUPLET_SANITIZE}.")
endif()
set(CPL_TEST_ENVIRONMENT
  COUPLET_PROGRAM=${CMAKE_BINARY_DIR}/couplet
  COUPLET_PLUGINS=${CMAKE_BINARY_DIR}/plugins
  COUPLET_BUILD=${CMAKE_BINARY_DIR}
  COUPLET_VENV=${CMAKE_SOURCE_DIR}/.venv
  LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/leaks.supp:print_suppressions=0
  UBSAN_OPTIONS=print_stacktrace=1
  ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1
  TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1)

# cpl_wanted(LABEL result)
function(cpl_wanted label result)
  set(${result} ON PARENT_SCOPE)
  if(COUPLET_TEST_LABELS AND NOT label IN_LIST COUPLET_TEST_LABELS)
    set(${result} OFF PARENT_SCOPE)
  endif()
endfunction()

# cpl_register(NAME LABELS command...)
function(cpl_register name labels)
  add_test(NAME ${CPL_TEST_PREFIX}${name} COMMAND ${ARGN} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${CPL_TEST_PREFIX}${name} PROPERTIES LABELS "${labels}" TIMEOUT 300 SKIP_RETURN_CODE 77
    ENVIRONMENT "${CPL_TEST_ENVIRONMENT}")
endfunction()

# cpl_test(FILE LABELS libraries...)
function(cpl_test file labels)
  list(GET labels 0 label)
  get_filename_component(target ${file} NAME_WE)
  string(REGEX REPLACE "^test_" "" target ${target})
  get_filename_component(dir ${file} DIRECTORY)
  get_filename_component(dir ${dir} NAME)
  if(NOT dir STREQUAL label)
    set(target ${dir}_${target})
  endif()
  set(target ${label}_${target})
  add_executable(${target} ${file})
  target_link_libraries(${target} PRIVATE ${ARGN} PkgConfig::CMOCKA)
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  cpl_register(${target} "${labels}" ${target})
endfunction()

cpl_wanted(unit wanted)
cpl_wanted(net wanted_net)
foreach(floor IN LISTS CPL_FLOORS)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/${floor}/test_*.c)
  set(labels unit)
  if(floor MATCHES "^(net|wire|serve|load)$")
    list(APPEND labels net)
  endif()
  foreach(f IN LISTS files)
    if(wanted OR (wanted_net AND "net" IN_LIST labels))
      cpl_test(${f} "${labels}" cpl_${floor})
    endif()
  endforeach()
endforeach()

# Plug-ins for the tests of the registry (broken ones) and the engine: test-plugins/couplet-NAME.so.
file(GLOB plugins CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/backend/plugins/plugin_*.c)
foreach(f IN LISTS plugins)
  get_filename_component(name ${f} NAME_WE)
  string(REGEX REPLACE "^plugin_" "couplet-" name ${name})
  add_library(${name} MODULE ${f})
  target_link_libraries(${name} PRIVATE cpl_backend)
  set_target_properties(${name} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test-plugins)
endforeach()

foreach(pair golden:cpl_lib conform:cpl_engine sim:cpl_engine fault:cpl_cli)
  string(REPLACE ":" ";" pair ${pair})
  list(GET pair 0 label)
  list(GET pair 1 lib)
  cpl_wanted(${label} wanted)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${label}/test_*.c)
  foreach(f IN LISTS files)
    if(wanted)
      cpl_test(${f} ${label} ${lib})
      if(label STREQUAL "fault")
        # Whatever the file defines as __wrap_NAME takes the place of NAME in that executable.
        file(STRINGS ${f} lines REGEX "__wrap_[a-z0-9_]+\\(")
        string(REGEX MATCHALL "__wrap_[a-z0-9_]+" names "${lines}")
        list(REMOVE_DUPLICATES names)
        get_filename_component(stem ${f} NAME_WE)
        string(REGEX REPLACE "^test_" "fault_" stem ${stem})
        foreach(n IN LISTS names)
          string(REPLACE "__wrap_" "-Wl,--wrap=" n ${n})
          target_link_options(${stem} PRIVATE ${n})
        endforeach()
        set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${f})
      endif()
    endif()
  endforeach()
endforeach()

if(TARGET conform_conform) # compiles every model once a precision where foreign runtimes are installed
  set_tests_properties(${CPL_TEST_PREFIX}conform_conform PROPERTIES TIMEOUT 1500)
endif()

# plugins: test_NAME.c sees into plug-in NAME: it is built with that folder's sources.
cpl_wanted(plugins wanted)
file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/plugins/test_*.c)
foreach(f IN LISTS files)
  if(wanted)
    get_filename_component(name ${f} NAME_WE)
    string(REGEX REPLACE "^test_" "" name ${name})
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/backend/${name}/*.c)
    cpl_test(${f} plugins cpl_engine)
    target_sources(plugins_${name} PRIVATE ${sources})
  endif()
endforeach()

cpl_wanted(kernel wanted)
if(wanted)
  include(cmake/kerncheck.cmake)
endif()

include(cmake/amx.cmake)

# fuzz: every target replays its corpus and seeded mutations of it; `make fuzz` builds the same files with libFuzzer.
cpl_wanted(fuzz wanted)
if(wanted)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_*.c)
  foreach(f IN LISTS files)
    get_filename_component(stem ${f} NAME_WE)
    string(REGEX REPLACE "^fuzz_" "" name ${stem})
    add_executable(${stem}_replay ${f} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.c)
    target_link_libraries(${stem}_replay PRIVATE cpl_cli)
    target_include_directories(${stem}_replay PRIVATE ${CMAKE_SOURCE_DIR}/tests)
    cpl_register(${stem} fuzz ${stem}_replay ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
  endforeach()
endif()

cpl_wanted(e2e wanted)
if(wanted)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/e2e/test_*.py ${CMAKE_SOURCE_DIR}/tests/e2e/test_*.sh)
  foreach(f IN LISTS files)
    get_filename_component(name ${f} NAME_WE)
    string(REGEX REPLACE "^test_" "e2e_" name ${name})
    if(f MATCHES "\\.py$")
      cpl_register(${name} e2e ${CMAKE_SOURCE_DIR}/.venv/bin/python ${f})
    else()
      cpl_register(${name} e2e sh ${f})
    endif()
    set_tests_properties(${CPL_TEST_PREFIX}${name} PROPERTIES PROCESSORS 2)
  endforeach()
  cpl_register(e2e_install e2e ${CMAKE_SOURCE_DIR}/tools/check_install.sh ${CMAKE_BINARY_DIR})
endif()

cpl_wanted(lint wanted)
if(wanted)
  cpl_register(lint_floors lint ${CMAKE_SOURCE_DIR}/tools/check_floors.sh ${CPL_FLOORS})
  cpl_register(lint_style lint python3 ${CMAKE_SOURCE_DIR}/tools/check_style.py)
  cpl_register(lint_format lint ${CMAKE_SOURCE_DIR}/tools/check_format.sh)
  cpl_register(lint_docs lint python3 ${CMAKE_SOURCE_DIR}/tools/check_docs.py)
  cpl_register(lint_shell lint ${CMAKE_SOURCE_DIR}/tools/check_shell.sh)
  cpl_register(lint_macos lint ${CMAKE_SOURCE_DIR}/tools/check_macos.sh ${CMAKE_BINARY_DIR})
  set_tests_properties(${CPL_TEST_PREFIX}lint_macos PROPERTIES PROCESSORS 2)
endif()
