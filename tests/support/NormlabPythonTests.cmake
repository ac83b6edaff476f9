# normlab_python_test(NAME FILE test_x.py LABELS label [TIMEOUT seconds]): a test of the whole product, run by Python's
# unittest against the programs of this build. They share the two cores with nothing else. One whose outside need is absent
# says so and is counted as skipped.
#
# Debian's modules (NumPy, grpcio) are those of Debian's Python, whatever other one comes first in the PATH.
if(NOT Python3_EXECUTABLE AND EXISTS /usr/bin/python3)
  set(Python3_EXECUTABLE /usr/bin/python3)
endif()
function(normlab_python_test name)
  cmake_parse_arguments(ARG "" "FILE;TIMEOUT" "LABELS" ${ARGN})
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/${ARG_FILE})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set_tests_properties(${name} PROPERTIES
    LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT} RUN_SERIAL TRUE SKIP_RETURN_CODE 77
    ENVIRONMENT "NORMLAB_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};PYTHONPATH=${PROJECT_SOURCE_DIR}/tests/support")
endfunction()
