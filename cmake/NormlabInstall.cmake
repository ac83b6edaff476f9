# What `cmake --install` puts where, and the Debian package that cpack makes of it (deploy/package). Shell completion and
# man pages are installed where they are made (client/cli).
include(GNUInstallDirs)
# Only the programs are installed: no reason to build the tests first.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)

add_dependencies(normlab_package_files normlabd normlab normlab-worker normlab-worker-mpi)
foreach(made normlab_shell_files normlab_python)
  if(TARGET ${made})
    add_dependencies(normlab_package_files ${made})
  endif()
endforeach()

install(TARGETS normlabd normlab DESTINATION ${CMAKE_INSTALL_BINDIR})
# Started by normlabd, never by hand.
install(TARGETS normlab-worker DESTINATION libexec/normlab)
# A package of its own (normlab-mpi, see deploy/package): Open MPI brings many libraries, which most servers do without.
install(TARGETS normlab-worker-mpi DESTINATION libexec/normlab COMPONENT mpi EXCLUDE_FROM_ALL)
install(PROGRAMS deploy/make-certificates DESTINATION ${CMAKE_INSTALL_DATADIR}/normlab)
install(FILES README.md DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/normlab)
# What an operator reads, and what the alerts' runbook_url names.
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/normlab FILES_MATCHING PATTERN "*.md"
        PATTERN images EXCLUDE PATTERN examples EXCLUDE)
# What Prometheus and Grafana are pointed at, so that an upgrade brings rules and dashboards of its version.
install(DIRECTORY deploy/prometheus DESTINATION ${CMAKE_INSTALL_DATADIR}/normlab FILES_MATCHING PATTERN "*.yml")
install(DIRECTORY deploy/grafana/dashboards deploy/grafana/provisioning DESTINATION ${CMAKE_INSTALL_DATADIR}/normlab/grafana
        FILES_MATCHING PATTERN "*.yml" PATTERN "*.json")
install(DIRECTORY docs/examples DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/normlab)
install(FILES deploy/debian/copyright DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/normlab)
install(DIRECTORY proto/normlab DESTINATION ${CMAKE_INSTALL_DATADIR}/normlab/proto FILES_MATCHING PATTERN "*.proto")

# ---- Debian. Services and configuration have their places whatever the prefix.
set(_debian ${CMAKE_CURRENT_BINARY_DIR}/debian)
file(MAKE_DIRECTORY ${_debian})
find_program(GZIP_PROGRAM gzip REQUIRED)
execute_process(COMMAND ${GZIP_PROGRAM} -9nc ${CMAKE_CURRENT_SOURCE_DIR}/deploy/debian/changelog
                OUTPUT_FILE ${_debian}/changelog.Debian.gz COMMAND_ERROR_IS_FATAL ANY)
install(FILES ${_debian}/changelog.Debian.gz DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/normlab)
install(FILES deploy/systemd/normlabd.service DESTINATION /lib/systemd/system)
install(FILES deploy/systemd/normlabd.conf DESTINATION /etc/normlab)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME normlab)
set(CPACK_PACKAGE_VENDOR Normlab)
set(CPACK_PACKAGE_CONTACT "The Normlab authors <normlab@localhost.localdomain>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# The libraries are found by what the programs link.
set(CPACK_DEBIAN_PACKAGE_DEPENDS "adduser, init-system-helpers (>= 1.54)")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "dataset-fashion-mnist")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "prometheus, openssl, python3-grpcio, python3-protobuf, python3-numpy")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "experiments on batch norm and its relatives, as a service")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"A gRPC server that runs training experiments on this machine's processors,
with every kind of normalization, streams the numbers of every step, keeps
all of them durable, and shows itself to Prometheus.
.
This package has the server (normlabd), its command line (normlab) and the
program that trains.")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    ${CMAKE_CURRENT_SOURCE_DIR}/deploy/debian/postinst ${CMAKE_CURRENT_SOURCE_DIR}/deploy/debian/prerm
    ${CMAKE_CURRENT_SOURCE_DIR}/deploy/debian/postrm ${CMAKE_CURRENT_SOURCE_DIR}/deploy/debian/conffiles)
# Folders as Debian wants them, whatever the umask of whoever builds.
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
    WORLD_READ WORLD_EXECUTE)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_SOURCE_DIR}/cmake/CompressManuals.cmake)
include(CPack)
