# SPDX-License-Identifier: Apache-2.0
# libcouplet: what include/couplet.h promises, static and shared, from the floors base..lib; and the plug-ins.
set(CPL_LIBRARY_FLOORS base text model kernel backend engine lib)
foreach(f IN LISTS CPL_LIBRARY_FLOORS)
  list(APPEND CPL_LIBRARY_OBJECTS $<TARGET_OBJECTS:cpl_${f}>)
endforeach()
