# SPDX-License-Identifier: Apache-2.0
# cpl_floor(NAME [ABOVE floors...] [LINKS libraries...] [PROTO]) makes static library cpl_NAME of src/NAME/**/*.c.
# Files called *_avx2.c, *_neon.c, ... are compiled for that ISA, and only where the processor is of its family; they
# must include no non-static inline function.

# Folders of src/backend that are plug-ins as a whole: no part of libcouplet or the program.
set(CPL_FOREIGN_BACKENDS onnx openvino pytorch compiled mlx mps)

set(CPL_ISAS_x86 avx2 avxvnni avx512 vnni bf16 amx)
set(CPL_ISA_avx2 -mavx2 -mfma -mf16c)
set(CPL_ISA_avxvnni ${CPL_ISA_avx2}) # its one instruction is written in assembly
set(CPL_ISA_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c)
set(CPL_ISA_vnni ${CPL_ISA_avx512} -mavx512vnni)
set(CPL_ISA_bf16 ${CPL_ISA_avx512} -mavx512bf16)
set(CPL_ISA_amxmodel ${CPL_ISA_vnni} -mavx512vbmi -mavx512bf16) # tiles and halves in software: cmake/amx.cmake
set(CPL_ISA_amx ${CPL_ISA_amxmodel} -mavx512fp16)

set(CPL_ISAS_arm neon dotprod i8mm bfmmla)
set(CPL_ISA_neon "") # every 64-bit ARM has it
set(CPL_ISA_dotprod -march=armv8.2-a+dotprod)
set(CPL_ISA_i8mm -march=armv8.2-a+dotprod+i8mm)
set(CPL_ISA_bfmmla -march=armv8.2-a+bf16)
if(CMAKE_C_COMPILER_ID STREQUAL GNU) # it would move loads up until the tiles' sums no longer fit into registers
  foreach(isa IN LISTS CPL_ISAS_arm)
    list(APPEND CPL_ISA_${isa} -fno-schedule-insns)
  endforeach()
endif()

set(CPL_FAMILY other)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(CPL_FAMILY x86)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(CPL_FAMILY arm)
endif()

# Gives the ISA files of this processor's family their flags and takes the others out of the list.
function(cpl_isa_files list)
  set(files ${${list}})
  foreach(file IN LISTS ${list})
    foreach(family x86 arm)
      foreach(isa IN LISTS CPL_ISAS_${family})
        if(NOT file MATCHES "_${isa}\\.c$")
          continue()
        elseif(family STREQUAL CPL_FAMILY)
          set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${CPL_ISA_${isa}}")
        else()
          list(REMOVE_ITEM files ${file})
        endif()
      endforeach()
    endforeach()
  endforeach()
  set(${list} ${files} PARENT_SCOPE)
endfunction()

function(cpl_floor name)
  list(APPEND CPL_FLOORS ${name})
  set(CPL_FLOORS ${CPL_FLOORS} PARENT_SCOPE)
  cmake_parse_arguments(F "PROTO" "" "ABOVE;LINKS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.c)
  list(FILTER sources EXCLUDE REGEX "src/cli/main\\.c$|/plugin_[a-z0-9_]*\\.c$")
  foreach(foreign IN LISTS CPL_FOREIGN_BACKENDS)
    list(FILTER sources EXCLUDE REGEX "/src/backend/${foreign}/")
  endforeach()
  cpl_isa_files(sources)
  if(F_PROTO)
    file(GLOB protos CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/proto/*.proto)
    find_program(PROTOC_C protoc-c REQUIRED)
    set(gen ${CMAKE_BINARY_DIR}/proto)
    file(MAKE_DIRECTORY ${gen}/proto)
    foreach(p IN LISTS protos)
      get_filename_component(stem ${p} NAME_WE)
      add_custom_command(OUTPUT ${gen}/proto/${stem}.pb-c.c ${gen}/proto/${stem}.pb-c.h
        COMMAND ${PROTOC_C} --proto_path=${CMAKE_SOURCE_DIR} --c_out=${gen} proto/${stem}.proto
        WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} DEPENDS ${p} VERBATIM)
      list(APPEND sources ${gen}/proto/${stem}.pb-c.c)
      set_source_files_properties(${gen}/proto/${stem}.pb-c.c PROPERTIES COMPILE_OPTIONS "-w") # generated
    endforeach()
    # What reflection publishes: the descriptors of every proto, embedded. protoc-c is protoc enough to write them.
    file(GLOB_RECURSE published RELATIVE ${CMAKE_SOURCE_DIR}/proto CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/proto/*.proto)
    list(TRANSFORM published PREPEND ${CMAKE_SOURCE_DIR}/proto/ OUTPUT_VARIABLE published_paths)
    add_custom_command(OUTPUT ${gen}/descriptors.c BYPRODUCTS ${gen}/descriptors.pb
      COMMAND ${PROTOC_C} --proto_path=. --include_imports --descriptor_set_out=${gen}/descriptors.pb ${published}
      COMMAND ${CMAKE_COMMAND} -DINPUT=${gen}/descriptors.pb -DOUTPUT=${gen}/descriptors.c -DNAME=cpl_descriptor_set
              -P ${CMAKE_SOURCE_DIR}/cmake/embed.cmake
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}/proto DEPENDS ${published_paths} ${CMAKE_SOURCE_DIR}/cmake/embed.cmake
      VERBATIM)
    list(APPEND sources ${gen}/descriptors.c)
    # Pages that the program serves.
    file(GLOB pages CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.html)
    foreach(page IN LISTS pages)
      get_filename_component(stem ${page} NAME_WE)
      add_custom_command(OUTPUT ${gen}/${stem}_html.c
        COMMAND ${CMAKE_COMMAND} -DINPUT=${page} -DOUTPUT=${gen}/${stem}_html.c -DNAME=cpl_${stem}_html
                -P ${CMAKE_SOURCE_DIR}/cmake/embed.cmake
        DEPENDS ${page} ${CMAKE_SOURCE_DIR}/cmake/embed.cmake VERBATIM)
      list(APPEND sources ${gen}/${stem}_html.c)
    endforeach()
  endif()
  if(NOT sources)
    file(WRITE ${CMAKE_BINARY_DIR}/empty_${name}.c "typedef int cpl_empty_${name};\n")
    set(sources ${CMAKE_BINARY_DIR}/empty_${name}.c)
  endif()
  add_library(cpl_${name} STATIC ${sources})
  add_dependencies(cpl_${name} check_floors)
  target_include_directories(cpl_${name} PUBLIC ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
  if(F_PROTO)
    target_include_directories(cpl_${name} PUBLIC ${CMAKE_BINARY_DIR}/proto)
  endif()
  foreach(a IN LISTS F_ABOVE)
    target_link_libraries(cpl_${name} PUBLIC cpl_${a})
  endforeach()
  target_link_libraries(cpl_${name} PUBLIC ${F_LINKS})
endfunction()

# The include check is part of every build: it runs again when a source changed, in a few milliseconds.
function(cpl_floors_checked)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/*.[ch] ${CMAKE_SOURCE_DIR}/include/*.h)
  add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/floors.checked
    COMMAND ${CMAKE_SOURCE_DIR}/tools/check_floors.sh --self-test
    COMMAND ${CMAKE_SOURCE_DIR}/tools/check_floors.sh ${CPL_FLOORS}
    COMMAND ${CMAKE_COMMAND} -E touch ${CMAKE_BINARY_DIR}/floors.checked
    DEPENDS ${sources} ${CMAKE_SOURCE_DIR}/tools/check_floors.sh COMMENT "Includes go down the floors only" VERBATIM)
  add_custom_target(check_floors ALL DEPENDS ${CMAKE_BINARY_DIR}/floors.checked)
endfunction()

# Two floors must not define the same name: static libraries would link without a word.
function(cpl_symbols_checked)
  list(TRANSFORM CPL_FLOORS PREPEND cpl_ OUTPUT_VARIABLE targets)
  foreach(t IN LISTS targets)
    list(APPEND archives $<TARGET_FILE:${t}>)
  endforeach()
  add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/symbols.checked
    COMMAND ${CMAKE_SOURCE_DIR}/tools/check_symbols.sh ${archives}
    COMMAND ${CMAKE_COMMAND} -E touch ${CMAKE_BINARY_DIR}/symbols.checked
    DEPENDS ${targets} ${CMAKE_SOURCE_DIR}/tools/check_symbols.sh COMMENT "Every global name once, with our prefix"
    VERBATIM)
  add_custom_target(check_symbols ALL DEPENDS ${CMAKE_BINARY_DIR}/symbols.checked)
endfunction()
