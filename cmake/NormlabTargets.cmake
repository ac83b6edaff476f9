# How every target of ours is declared. Dependencies are spelled at the target, PUBLIC or PRIVATE; nothing is global.

add_library(normlab_warnings INTERFACE)
target_compile_options(normlab_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror
  # Designated initializers leave defaulted members out on purpose.
  -Wno-missing-field-initializers)
add_library(normlab_sanitizers INTERFACE)
if(NORMLAB_SANITIZE)
  string(REPLACE ";" "," _normlab_sanitize "${NORMLAB_SANITIZE}")
  target_compile_options(normlab_sanitizers INTERFACE -fsanitize=${_normlab_sanitize} -fno-omit-frame-pointer
                         -fno-sanitize-recover=all)
  target_link_options(normlab_sanitizers INTERFACE -fsanitize=${_normlab_sanitize})
endif()

# normlab_library(NAME [HEADERS_ONLY] SOURCES a.cc ... [PUBLIC deps...] [PRIVATE deps...])
# Defines static library normlab_NAME with the alias normlab::NAME, included as "folder/file.h" from the root.
function(normlab_library name)
  cmake_parse_arguments(ARG "HEADERS_ONLY" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  set(target normlab_${name})
  if(ARG_HEADERS_ONLY)
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${target} INTERFACE ${ARG_PUBLIC})
  else()
    add_library(${target} STATIC ${ARG_SOURCES})
    target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(${target} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE} normlab_warnings normlab_sanitizers)
  endif()
  add_library(normlab::${name} ALIAS ${target})
endfunction()

# normlab_binary(NAME SOURCES a.cc ... DEPS deps...): an executable in build/<preset>/bin.
function(normlab_binary name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} normlab_warnings normlab_sanitizers)
endfunction()

# What has to be built before cpack runs (deploy/package): whoever installs something adds it.
add_custom_target(normlab_package_files)

# What the sanitizer stages of tests/run build: every unit test; those of the code where memory errors would hide (the
# engine and the store, labelled core); those labelled concurrency.
add_custom_target(normlab_unit_tests)
add_custom_target(normlab_core_tests)
add_custom_target(normlab_concurrency_tests)

# normlab_test(NAME SOURCES a_test.cc ... DEPS deps... [LABELS unit|numeric|concurrency|long|...] [TIMEOUT seconds] [SERIAL])
# One GoogleTest executable, one ctest entry (labels default to unit; long ones are not run again under sanitizers).
# gtest_main is linked.
function(normlab_test name)
  if(NOT NORMLAB_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "SERIAL" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest GTest::gtest_main normlab_warnings normlab_sanitizers)
  # Tests call optimized code but need no optimizing themselves, and at -O3 GCC 12 imagines uninitialized strings in them.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if("thread" IN_LIST NORMLAB_SANITIZE)
    # Abseil comes without instrumentation: its locks have to be told to TSan.
    target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/support/tsan_absl_mutex.cc)
    target_link_libraries(${name} PRIVATE absl::synchronization ${CMAKE_DL_LIBS})
  endif()
  add_test(NAME ${name} COMMAND ${name})
  if(("unit" IN_LIST ARG_LABELS OR "numeric" IN_LIST ARG_LABELS) AND NOT "long" IN_LIST ARG_LABELS)
    add_dependencies(normlab_unit_tests ${name})
    if(CMAKE_CURRENT_SOURCE_DIR MATCHES "/(common|engine/[a-z]+|tests/numeric|server/(domain|store|stream))$")
      list(APPEND ARG_LABELS core)
      add_dependencies(normlab_core_tests ${name})
    endif()
  endif()
  if("concurrency" IN_LIST ARG_LABELS)
    add_dependencies(normlab_concurrency_tests ${name})
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
  if(ARG_SERIAL)
    set_tests_properties(${name} PROPERTIES RUN_SERIAL TRUE)
  endif()
endfunction()
